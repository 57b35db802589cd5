"""Bytes of one image, wherever its URI points, within limits."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from transforms.errors import ImageError


def read_bytes(uri: str, max_bytes: int) -> bytes:
    """The bytes that `uri` names.

    Args:
        uri: an absolute or relative path, or a `file://` URI.
        max_bytes: files larger than this are refused without being read.

    Raises:
        ImageError: stage `read`; type `not_found`, `permission_denied`, `is_a_directory`, `not_a_file`, `too_large`,
            `unsupported_scheme` or `io_error`. An empty file is read: having no picture is the decoder's verdict.
    """
    scheme = uri_scheme(uri)
    reader = SCHEMES.get(scheme)
    if reader is None:
        known = ", ".join(sorted(f"{name}://" for name in SCHEMES if name))
        message = f"cannot read {scheme}:// URIs; local paths and {known} can be read"
        raise ImageError("read", "unsupported_scheme", message)
    try:
        return reader(uri, max_bytes)
    except FileNotFoundError:
        raise ImageError("read", "not_found", "no such file") from None
    except PermissionError:
        raise ImageError("read", "permission_denied", "no permission to read the file") from None
    except (IsADirectoryError, NotADirectoryError) as error:
        kind = "is_a_directory" if isinstance(error, IsADirectoryError) else "not_found"
        raise ImageError("read", kind, (error.strerror or str(error)).lower()) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path
        raise ImageError("read", "io_error", getattr(error, "strerror", None) or str(error)) from None


def uri_scheme(uri: str) -> str:
    """The scheme of `uri` in lower case; empty for a plain path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator and head.replace("+", "").replace("-", "").isalnum() else ""


def local_path(uri: str) -> str:
    """The path of a plain path or `file://` URI; percent-encoded bytes that are no UTF-8 survive."""
    if uri_scheme(uri) != "file":
        return uri
    host, slash, path = uri[len("file://") :].partition("/")
    if host not in ("", "localhost"):
        raise ImageError("read", "unsupported_scheme", f"file://{host}/ names another machine")
    return os.fsdecode(unquote_to_bytes(slash + path))


def _read_local(uri: str, max_bytes: int) -> bytes:
    # O_NONBLOCK: opening a FIFO nobody writes to must not hang; for regular files it changes nothing.
    descriptor = os.open(local_path(uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(None, "is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("read", "not_a_file", "not a regular file")
        if status.st_size > max_bytes:
            raise too_large(status.st_size, max_bytes)
        data = file.read(max_bytes + 1) or b""
        while len(data) < status.st_size:  # a raw read may be short
            more = file.read(max_bytes + 1 - len(data))
            if not more:
                break
            data += more
    if len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    return data


def too_large(size: int, limit: int) -> ImageError:
    """The error of a file larger than `image.max_bytes`."""
    return ImageError("read", "too_large", f"{size:,} bytes; image.max_bytes is {limit:,}")


SCHEMES: dict[str, Callable[[str, int], bytes]] = {"": _read_local, "file": _read_local}
