"""From a model's handle to a directory with its SavedModel, once, in the launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from pipeline.errors import HublabelError, UsageError
from pipeline.record import hash_file

PROGRAM = "import sys, tensorflow_hub; print(tensorflow_hub.resolve(sys.argv[1]))"


def resolve_model(handle: str) -> str:
    """The directory of the SavedModel that `handle` names.

    Args:
        handle: a SavedModel directory, a `.tar.gz` of one, or what `tensorflow_hub` resolves (a URL, `gs://`).

    Raises:
        UsageError: there is no such file, or no SavedModel in it.
        HublabelError: the model could not be fetched.
    """
    if "://" in handle:
        return _resolve_with_hub(handle)
    if os.path.isdir(handle):
        return _saved_model_in(Path(handle), handle)
    if not os.path.exists(handle):
        raise UsageError(f"model.handle: {handle!r} does not exist; {ALLOWED}")
    if not _is_archive(handle):
        raise UsageError(f"model.handle: {handle!r} is not a whole tar archive; {ALLOWED}")
    return _unpacked(handle)


ALLOWED = "it must be a SavedModel directory, a .tar.gz of one, or a TensorFlow Hub URL"


def _is_archive(path: str) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):  # cut short before the first member
        return False


def _saved_model_in(folder: Path, handle: str) -> str:
    if (folder / "saved_model.pb").exists():
        return str(folder)
    below = sorted(folder.glob("*/saved_model.pb"))
    if len(below) != 1:
        raise UsageError(f"model.handle: {handle!r} holds no SavedModel (no saved_model.pb); {ALLOWED}")
    return str(below[0].parent)


def cache_folder() -> Path:
    """Where unpacked models are kept, a folder of the user's."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hublabel" / "models"


def _unpacked(archive: str) -> str:
    """The archive's contents, unpacked once under the digest of the archive."""
    target = cache_folder() / hash_file(archive)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=target.parent, prefix=".unpacking-")
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
            os.rename(scratch, target)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            if not target.exists():  # else another process was faster
                raise UsageError(f"model.handle: {archive!r} cannot be unpacked: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _saved_model_in(target, archive)


def _resolve_with_hub(handle: str) -> str:
    # In a process of its own: the launcher imports no TensorFlow.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **os.environ}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, handle], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HublabelError(
            f"model.handle: {handle} could not be fetched: {reason}; "
            "if the link is dead, set model.handle to a local copy of the SavedModel"
        )
    return done.stdout.strip().splitlines()[-1]
