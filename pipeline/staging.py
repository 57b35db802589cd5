"""What a run keeps on this machine while its output is in an object store: a plan in the making, and the log."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.resolve import cache_folder
from transforms.storage import LocalStorage, ObjectStorage, Storage

if TYPE_CHECKING:
    from pipeline.plan import Plan

PLAN_FOLDER = "plan"
LOG = "run.log"


@contextmanager
def plan_folder(storage: Storage, old: Plan | None = None) -> Iterator[str]:
    """A local folder to make a plan in: the output itself, or one whose plan is uploaded when the body is done.

    Args:
        old: the plan to extend, whose files are in the folder.
    """
    if isinstance(storage, LocalStorage):
        yield storage.root
        return
    with tempfile.TemporaryDirectory(prefix="hublabel-plan-") as folder:
        known = [file.name for file in old.files] if old else []
        for name in known:
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            with storage.open(name) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 8 << 20)
        yield folder
        _publish(cast(ObjectStorage, storage), folder, known)


def _publish(storage: ObjectStorage, folder: str, known: list[str]) -> None:
    """Upload the new files of a plan; those of one that was never recorded go."""
    made = sorted(f"{PLAN_FOLDER}/{path.name}" for path in Path(folder, PLAN_FOLDER).iterdir())
    for name in list(storage.list(PLAN_FOLDER)):
        if name not in made:
            storage.delete(name)
    for name in made:
        if name not in known:
            storage.upload(name, os.path.join(folder, name))


def local_log(storage: Storage) -> str:
    """Path of the file that the log of a run is appended to; for an object store, a copy of what is stored there."""
    if isinstance(storage, LocalStorage):
        return storage.path(LOG)
    digest = hashlib.sha256(storage.root.encode()).hexdigest()[:16]
    path = cache_folder().parent / "runs" / digest / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stored = storage.read(LOG)
    except FileNotFoundError:
        stored = b""
    if not (path.exists() and path.read_bytes().startswith(stored)):  # else a killed run has left the rest here
        path.write_bytes(stored)
    return os.fspath(path)


def save_log(storage: Storage, path: str) -> None:
    """Upload the log of an output in an object store, if it can be had: a log is not worth a run."""
    if not isinstance(storage, LocalStorage):
        with suppress(OSError):
            storage.replace(LOG, Path(path).read_bytes())
