"""Tar archives from elsewhere, unpacked without trust."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 20 << 30  # of all files together; the largest image models have some 5 GiB
MAX_FILES = 10_000
CHUNK = 1 << 20


class ArchiveError(ValueError):
    """The archive is damaged, or holds what no SavedModel has; the message says what."""


def is_archive(path: Path) -> bool:
    """Whether the file begins as a tar archive does, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error, lzma.LZMAError):  # cut short before the first member
        return False


def unpack(
    archive: Path,
    target: Path,
    check: Callable[[], None] = lambda: None,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> None:
    """Unpack a tar archive (plain, gzip, bzip2 or xz) into the new folder `target`.

    Only files and folders, none outside `target`: a link is refused, as `tensorflow_hub` does, so that no later member
    can write through it. Sizes are added up from the headers before anything is written.

    Args:
        check: called before each member; what it raises ends it.
        max_bytes: of all files together, unpacked.
        max_files: files and folders.

    Raises:
        ArchiveError: with the reason.
    """
    target.mkdir()
    size = count = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                check()
                size, count = size + member.size, count + 1
                if size > max_bytes or count > max_files:
                    raise ArchiveError(f"it holds more than {max_bytes:,} bytes or {max_files:,} files")
                if not (member.isreg() or member.isdir()):
                    raise ArchiveError(f"{member.name!r} is a link or a device, which no SavedModel has")
                tar.extract(member, target, filter="data")
            while tar.fileobj and tar.fileobj.read(CHUNK):  # to its very end, where gzip's checksum is
                check()
    except tarfile.FilterError as error:
        raise ArchiveError(str(error)) from None
    except EOFError:
        raise ArchiveError("it is cut short") from None
    except (tarfile.TarError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveError(getattr(error, "strerror", None) or str(error)) from None
