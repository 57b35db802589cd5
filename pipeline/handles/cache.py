"""The models that were fetched or unpacked once: a folder each, which `tensorflow_hub` can share.

Beside the folder KEY lie `KEY.files.json` (what was fetched, from where, its digest and the size of every file, so
that a folder a cleaner has emptied, in whole or in part, is noticed), `KEY.descriptor.txt` for people, as
`tensorflow_hub` writes it, and `.KEY.flock`, held while one process fetches. A killed process's lock is gone with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import HublabelError, UsageError
from pipeline.handles.archive import unpack
from pipeline.handles.errors import ALLOWED
from pipeline.record import hash_file
from transforms.masking import mask_credentials

TICK = 0.1  # seconds between looks at a lock that another process holds


def cache_folder() -> Path:
    """Where models are kept, a folder of the user's."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hublabel" / "models"


def hub_cache_folder() -> Path:
    """Where fetched models are kept: TFHUB_CACHE_DIR, as for `tensorflow_hub`, else `cache_folder`.

    Raises:
        UsageError: TFHUB_CACHE_DIR is not on this machine.
    """
    chosen = os.environ.get("TFHUB_CACHE_DIR")
    if not chosen:
        return cache_folder()
    if "://" in chosen:
        raise UsageError(f"TFHUB_CACHE_DIR: {chosen!r} is not valid; it must be a local folder")
    return Path(chosen).expanduser().absolute()


def find_saved_model(folder: Path) -> Path | None:
    """`folder`, or the one folder in it, that holds a SavedModel."""
    if (folder / "saved_model.pb").exists():
        return folder
    below = sorted(folder.glob("*/saved_model.pb"))
    return below[0].parent if len(below) == 1 else None


def cached(folder: Path, sha256: str | None = None) -> Path | None:
    """The SavedModel in the cache's `folder`, if it is there whole.

    Args:
        sha256: of the archive it must have come from; None takes any.
    """
    model = find_saved_model(folder)
    if model is None:
        return None
    try:
        manifest = json.loads(_manifest(folder).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
        known = manifest["sha256"]
    except FileNotFoundError:  # of the manifest: fetched by tensorflow_hub; of a file: lost
        whole, known = not _manifest(folder).exists() and _has_variables(model), None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return model if whole and sha256 in (None, known) else None


def archive_digest(model: Path) -> str | None:
    """sha256 of the archive that a SavedModel in the cache came from, as `model.sha256` has it; None if unknown."""
    for folder in (model, model.parent):
        try:
            return json.loads(_manifest(folder).read_bytes())["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _has_variables(model: Path) -> bool:
    variables = model / "variables"
    return not variables.is_dir() or any(variables.iterdir())


def fetched(
    folder: Path,
    handle: str,
    sha256: str | None,
    fetch: Callable[[Path], Path],
    say: Callable[[str], None],
    check: Callable[[], None],
) -> Path:
    """The SavedModel in the cache's `folder`, fetched if it is not there whole; one process at a time fetches it.

    Args:
        handle: for messages and the record.
        sha256: what the archive's digest must be; None takes any.
        fetch: gets an empty folder to work in, returns a tar archive, or a folder with the files themselves.
        say: prints a line.
        check: called now and then; what it raises ends it.

    Raises:
        ArchiveError: see `unpack`.
        UsageError: the digest is another, or what was fetched is no SavedModel.
        HublabelError: the cache cannot be written.
    """
    model = cached(folder, sha256)
    if model is not None:  # without a lock, so from a cache that cannot be written too
        return model
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        message = f"another process is fetching {mask_credentials(handle)}, waiting for it"
        with locked(folder, message, say, check) as alone:
            if alone:
                for stale in folder.parent.glob(f".{folder.name}.*.part"):  # of a process that was killed
                    shutil.rmtree(stale, ignore_errors=True)
            model = cached(folder, sha256)
            return model or _install(folder, handle, sha256, fetch, check)
    except OSError as error:
        raise HublabelError(f"the cache of models {folder.parent}: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(folder: Path, message: str, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock of the cache's `folder`; prints `message` if another process has it.

    The body gets False where the file system knows no locks: then two may fetch, and the first to finish wins.
    """
    with (folder.parent / f".{folder.name}.flock").open("ab") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting:
                    say(message)
                waiting = True
                check()
                time.sleep(TICK)
                continue
            except OSError:
                yield False
                return
            yield True
            return


def _install(
    folder: Path, handle: str, sha256: str | None, fetch: Callable[[Path], Path], check: Callable[[], None]
) -> Path:
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        source, digest = fetch(scratch), None
        new = source if source.is_dir() else scratch / "model"
        if new is not source:
            digest = hash_file(os.fspath(source))
            if sha256 not in (None, digest):
                raise UsageError(
                    f"model.sha256: {handle} has the digest {digest}, not {sha256}: it is another archive, or damaged"
                )
            unpack(source, new, check)
        if find_saved_model(new) is None:
            raise UsageError(f"model.handle: {handle!r} holds no SavedModel (no saved_model.pb); {ALLOWED}")
        if cached(folder, sha256) is None:  # else tensorflow_hub, which knows other locks than ours, was faster
            _describe(folder, handle, digest, new)
            if folder.exists():
                os.rename(folder, scratch / "old")
            os.rename(new, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model = find_saved_model(folder)
    assert model is not None
    return model


def _manifest(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.files.json"


def _describe(folder: Path, handle: str, digest: str | None, new: Path) -> None:
    """Written before the files are in place: until they are, the model counts as not there."""
    files = {path.relative_to(new).as_posix(): path.stat().st_size for path in new.rglob("*") if path.is_file()}
    masked = mask_credentials(handle)
    values = {"handle": masked, "sha256": digest, "files": files}
    temporary = _manifest(folder).with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=1))
    os.replace(temporary, _manifest(folder))
    text = f"Module: {masked}\nDownload Time: {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    (folder.parent / f"{folder.name}.descriptor.txt").write_text(text)
