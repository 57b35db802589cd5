"""Members of tar archives, local or on object stores: found in one pass, each read with one seek or request then."""

from __future__ import annotations

import functools
import io
import os
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from transforms.errors import ImageError
from transforms.read import TAR_MEMBER, uri_scheme, why_unreadable

if TYPE_CHECKING:
    from typing_extensions import Self

BLOCK = 512


class DamagedTarError(ValueError):
    """An archive is not readable beyond some byte.

    Attributes:
        offset: of that byte.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Attributes:
        name: as the archive has it; bytes that are no UTF-8 as surrogates.
        offset: of its first byte in the archive.
        size: bytes.
        header: CRC-32 of the 512 bytes before `offset`, to see that it is still there.
        is_file: an ordinary file; no folder, link or device, and not sparse.
        is_folder: what it says.
    """

    name: str
    offset: int
    size: int
    header: int
    is_file: bool = True
    is_folder: bool = False

    def source(self, archive: bytes) -> str:
        """What `read_member` reads it by.

        Args:
            archive: an absolute local path, or the URI of an object. Behind the slash that ends the place, a path lacks
                its own; only a URI has two in a row.
        """
        place = f"{self.offset}+{self.size}+{self.header:08x}/"
        path = quote_from_bytes(archive.removeprefix(b"/"))
        return f"{TAR_MEMBER}://{place}{path}#{quote_from_bytes(os.fsencode(self.name))}"


class _Header(tarfile.TarInfo):
    """A member that remembers the CRC-32 of its header."""

    crc = 0

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        found.crc = zlib.crc32(buf)
        return found


def members(file: BinaryIO) -> Iterator[Member]:
    """All members in order, in one pass over the headers.

    Args:
        file: an uncompressed tar archive (ustar, GNU, pax), to seek in.

    Raises:
        OSError: it cannot be read.
        DamagedTarError: it is no tar, ends too early, or has a damaged header; after the members before that.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    read_at = reading_at(file)
    try:
        tar: Any = tarfile.open(fileobj=file, mode="r:", tarinfo=_Header)  # noqa: SIM115  # closes nothing
    except tarfile.TarError as error:
        raise DamagedTarError(0, f"it is not an uncompressed tar archive ({error})") from None
    position = 0
    try:
        while True:
            header = read_at(BLOCK, position)
            if (plain := None if tar.pax_headers else _plain(header)) is not None:
                member = Member(plain[0], position + BLOCK, plain[1], zlib.crc32(header))
                following = member.offset + -(-member.size // BLOCK) * BLOCK
            else:
                if position:
                    tar.offset, tar.firstmember = position, None
                if (found := tar.next()) is None:
                    break
                is_file = found.isreg() and not found.issparse()
                size = found.size if found.isreg() else 0
                member = Member(found.name, found.offset_data, size, _crc(found), is_file, found.isdir())
                tar.members = []  # else it keeps all of them
                following = tar.offset
            if member.offset + member.size > end:
                raise DamagedTarError(position, f"the archive ends within {member.name!r}")
            yield member
            position = following
    except tarfile.TarError as error:
        raise DamagedTarError(position, f"the archive is damaged here ({error})") from None
    # tarfile takes a damaged header for the end
    if header.strip(b"\0"):
        raise DamagedTarError(position, "the archive is damaged here; what follows is not read")


def reading_at(file: BinaryIO) -> Callable[[int, int], bytes]:
    """What reads so many bytes from an offset: `os.pread` of a local file, which is faster than a seek."""
    try:
        return functools.partial(os.pread, file.fileno())
    except io.UnsupportedOperation:
        return functools.partial(_seek_and_read, file)


def _seek_and_read(file: BinaryIO, size: int, offset: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _plain(header: bytes) -> tuple[str, int] | None:
    """Name and size of an ordinary file with nothing special about it; None for what is better left to tarfile.

    Five times as fast as tarfile. Fields as in POSIX.1-1988: name 0..99, size 124..135 and check sum 148..155 octal,
    type 156, magic 257..264, prefix 345..499.
    """
    magic = header[257:265]
    if header[156:157] not in (b"0", b"\0") or magic not in (b"ustar\x0000", b"ustar  \0"):
        return None
    try:
        size, check_sum = int(header[124:136].rstrip(b"\0 "), 8), int(header[148:156].rstrip(b"\0 "), 8)
    except ValueError:
        return None
    # The check sum is that of all bytes, its own taken for spaces. The low half of Adler-32 is 1 + that of all, modulo
    # 65,521.
    if (zlib.adler32(header) & 0xFFFF) != (1 + check_sum - 8 * 32 + sum(header[148:156])) % 65_521:
        return None
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if magic == b"ustar\x0000" else b""
    if not name or name.endswith(b"/"):
        return None
    return os.fsdecode(prefix + b"/" + name if prefix else name), size


def _crc(member: tarfile.TarInfo) -> int:
    return member.crc if isinstance(member, _Header) else 0


def read_member(source: str, max_bytes: int) -> bytes:
    """The bytes of a member.

    Args:
        source: what `Member.source` made.
        max_bytes: larger ones are refused without being read.

    Raises:
        ImageError: type `too_large`; `changed` when the archive has no such member there any more.
        OSError: the archive cannot be read.
    """
    path, _, name = source.removeprefix(f"{TAR_MEMBER}://").rpartition("#")
    place, _, rest = path.partition("/")
    offset, size, header = place.split("+")
    member = Member(os.fsdecode(unquote_to_bytes(name)), int(offset), int(size), int(header, 16))
    archive = unquote_to_bytes(rest)
    return _read(archive if b"://" in archive else b"/" + archive, member, max_bytes)


def read_by_name(path: str, max_bytes: int) -> bytes:
    """The bytes of `ARCHIVE.tar#MEMBER`, after one pass over the archive's headers for all of its members.

    Raises:
        FileNotFoundError: there is no such archive, or it has no such member.
        ImageError: type `too_large`, `damaged_tar`.
        OSError: the archive cannot be read.
    """
    start = path.find(".tar#")
    while start >= 0:
        archive, name = path[: start + 4], path[start + 5 :]
        if os.path.isfile(archive):
            return _read(os.fsencode(archive), _find(archive, name), max_bytes)
        start = path.find(".tar#", start + 1)
    raise FileNotFoundError(path)


def _read(archive: bytes, member: Member, max_bytes: int) -> bytes:
    if member.size > max_bytes:
        raise ImageError("read", "too_large", f"{member.size:,} bytes; image.max_bytes is {max_bytes:,}")
    read = _read_local if archive.startswith(b"/") else _read_stored
    data = read(archive, member.offset - BLOCK, BLOCK + member.size)
    if len(data) < BLOCK + member.size or zlib.crc32(data[:BLOCK]) != member.header:
        name = os.fsencode(member.name).decode("utf-8", "replace")
        raise ImageError("read", "changed", f"the archive has changed: {name!r} is not where it was")
    return data[BLOCK:]


def _read_local(archive: bytes, start: int, size: int) -> bytes:
    with open(archive, "rb", buffering=0) as file:
        file.seek(start)
        data = b""
        while len(data) < size:  # a raw read may be short
            more = file.read(size - len(data))
            if not more:
                break
            data += more
    return data


def _read_stored(archive: bytes, start: int, size: int) -> bytes:
    uri = archive.decode()
    scheme = uri_scheme(uri)
    if (why := why_unreadable(scheme)) is not None:
        raise ImageError("read", "unsupported_scheme", why)
    if scheme == "s3":
        from transforms.read_s3 import read_s3_range

        return read_s3_range(uri, start, start + size)
    from transforms.read_gs import read_gs_range

    return read_gs_range(uri, start, start + size)


_lock = threading.Lock()


def _find(archive: str, name: str) -> Member:
    status = os.stat(archive)
    with _lock:  # one pass, however many threads ask
        found = _index(archive, status.st_ino, status.st_mtime_ns, status.st_size).get(name)
    if found is None:
        raise FileNotFoundError(name)
    return found


@functools.lru_cache(maxsize=2)
def _index(archive: str, *version: int) -> dict[str, Member]:  # noqa: ARG001
    try:
        with open(archive, "rb") as file:
            return {member.name: member for member in members(file) if member.is_file}
    except DamagedTarError as error:
        raise ImageError("read", "damaged_tar", f"byte {error.offset}: {error}") from None
