"""From a model's handle to a directory with its SavedModel, once, in the launcher."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pipeline.errors import UsageError
from pipeline.handles.archive import ArchiveError, is_archive
from pipeline.handles.cache import cache_folder, fetched, find_saved_model, hub_cache_folder
from pipeline.handles.errors import ALLOWED, not_fetched
from pipeline.record import hash_file
from transforms.masking import mask_credentials

if TYPE_CHECKING:
    from pipeline.console import Voice


def resolve_model(
    handle: str,
    sha256: str | None = None,
    console: Voice | None = None,
    check: Callable[[], None] = lambda: None,
) -> str:
    """The directory of the SavedModel that `handle` names, fetched or unpacked into the user's cache if need be.

    A model that is in the cache whole needs no network. Two processes that ask at once both get it, fetched once.

    Args:
        handle: a SavedModel directory, a `.tar.gz` of one, `http(s)://`, `gs://` or `kaggle://`; see docs/models.md.
        sha256: what the archive's digest must be, hexadecimal; None takes any.
        console: where progress is shown.
        check: called now and then; what it raises ends the work.

    Raises:
        UsageError: there is no such file, no SavedModel in it, or another digest.
        HublabelError: the model could not be fetched.
    """
    sha256 = sha256.lower() if sha256 else None
    scheme, separator, rest = handle.partition("://")
    if not separator:
        return _local(handle, sha256, console, check)
    if scheme.lower() == "file":
        return _local(unquote(rest.removeprefix("localhost")), sha256, console, check)
    if scheme.lower() in ("http", "https", "gs"):
        return _remote(handle, sha256, console, check)
    if scheme.lower() == "kaggle":
        _refuse_digest(handle, sha256)
        from pipeline.handles.kaggle import kaggle_model

        return str(kaggle_model(handle, _speaker(console), check))
    raise UsageError(f"model.handle: {mask_credentials(handle)!r} is not valid; {ALLOWED}")


def _speaker(console: Voice | None) -> Callable[[str], None]:
    return console.print if console is not None else lambda line: None  # noqa: ARG005


def _refuse_digest(handle: str, sha256: str | None) -> None:
    if sha256 is not None:
        raise UsageError(f"model.sha256: it is compared with a tar archive, and {handle} is none; remove the key")


def _local(handle: str, sha256: str | None, console: Voice | None, check: Callable[[], None]) -> str:
    if os.path.isdir(handle):
        _refuse_digest(handle, sha256)
        model = find_saved_model(Path(handle))
        if model is None:
            raise UsageError(f"model.handle: {handle!r} holds no SavedModel (no saved_model.pb); {ALLOWED}")
        return str(model)
    if not os.path.exists(handle):
        raise UsageError(f"model.handle: {handle!r} does not exist; {ALLOWED}")
    archive = Path(handle)
    if not is_archive(archive):
        raise UsageError(f"model.handle: {handle!r} is not a whole tar archive; {ALLOWED}")
    folder = cache_folder() / hash_file(handle)
    try:
        return str(fetched(folder, handle, sha256, lambda scratch: archive, _speaker(console), check))  # noqa: ARG005
    except ArchiveError as error:
        raise UsageError(f"model.handle: {handle!r} cannot be unpacked: {error}") from None


def _remote(handle: str, sha256: str | None, console: Voice | None, check: Callable[[], None]) -> str:
    from pipeline.handles.download import DownloadError, archive_url, download
    from pipeline.handles.gcs import copy_tree
    from pipeline.handles.meter import Meter

    def fetch(scratch: Path) -> Path:
        target = scratch / "fetched"
        with Meter(console, handle) as meter:
            if handle.lower().startswith("gs://"):
                copy_tree(handle, target, meter, check)
            else:
                download(archive_url(handle), target, meter, check)
        if target.is_dir():
            _refuse_digest(handle, sha256)
        elif not is_archive(target):
            raise ArchiveError("what came is no whole tar archive")
        return target

    key = hashlib.sha1(handle.encode()).hexdigest()  # of the exact handle, as tensorflow_hub has it
    try:
        return str(fetched(hub_cache_folder() / key, handle, sha256, fetch, _speaker(console), check))
    except (ArchiveError, DownloadError) as error:
        raise not_fetched(mask_credentials(handle), str(error)) from None
