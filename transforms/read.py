"""Bytes of one image, wherever its URI points, within limits."""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from transforms.errors import ImageError


@dataclass(frozen=True)
class HttpSettings:
    """Limits and manners towards servers behind `http(s)://`.

    Attributes:
        user_agent: the header of that name.
        allow_private_hosts: whether private, loopback and link-local addresses may be connected to.
        connect_timeout: seconds for a connection.
        read_timeout: seconds between two pieces of an answer.
        deadline: seconds for an image, with redirects, retries and the pauses between them.
        retries: attempts after the first, where another may help: broken connections, time-outs, 429, 5xx.
        backoff: seconds before the second attempt, doubled for each one after, less a random part of up to a half;
            `Retry-After` of an answer may make it longer.
        max_redirects: so many are followed.
        per_host: requests at one time to one host, from one process.
    """

    user_agent: str = "hublabel"
    allow_private_hosts: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    deadline: float = 120.0
    retries: int = 4
    backoff: float = 0.5
    max_redirects: int = 10
    per_host: int = 16


@dataclass(frozen=True)
class ReadBytes:
    """Reads what a URI names, as a run's config has it: call it like `read_bytes`. Pickles.

    Attributes:
        http: for `http(s)://`.
        options: Beam's pipeline options, which say how `hdfs://` and `azfs://` are reached.
    """

    http: HttpSettings = field(default_factory=HttpSettings)
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, uri: str, max_bytes: int) -> bytes:
        """See `read_bytes`."""
        scheme = uri_scheme(uri)
        if (why := why_unreadable(scheme)) is not None:
            raise ImageError("read", "unsupported_scheme", why)
        try:
            return SCHEMES[scheme](uri, max_bytes, self)
        except FileNotFoundError:
            raise ImageError("read", "not_found", "no such file") from None
        except PermissionError:
            raise ImageError("read", "permission_denied", "no permission to read the file") from None
        except (IsADirectoryError, NotADirectoryError) as error:
            kind = "is_a_directory" if isinstance(error, IsADirectoryError) else "not_found"
            raise ImageError("read", kind, (error.strerror or str(error)).lower()) from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in a path
            raise ImageError("read", "io_error", getattr(error, "strerror", None) or str(error)) from None


def read_bytes(uri: str, max_bytes: int) -> bytes:
    """The bytes that `uri` names, read with the settings a config has by default.

    Args:
        uri: an absolute or relative path, or a URI of one of `SCHEMES`.
        max_bytes: what is larger is refused, without being read as far as that can be told before.

    Raises:
        ImageError: stage `read`; type `not_found`, `permission_denied`, `is_a_directory`, `not_a_file`, `too_large`,
            `unsupported_scheme`, `timeout`, `io_error`, and for `http(s)://` those of `read_http.read_http`. An empty
            file is read: having no picture is the decoder's verdict.
    """
    return ReadBytes()(uri, max_bytes)


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


def _read_local(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:  # noqa: ARG001
    try:
        return _read_file(uri, max_bytes)
    except OSError as error:
        is_nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        if not is_nowhere or ".tar#" not in (path := local_path(uri)):
            raise
    from transforms.tar_members import read_by_name

    return read_by_name(path, max_bytes)


def _read_file(uri: str, max_bytes: int) -> bytes:
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


# The modules below are imported when they are needed: a run over local files loads no network libraries.


def _read_tar_member(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:  # noqa: ARG001
    from transforms.tar_members import read_member

    return read_member(uri, max_bytes)


def _read_http(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:
    from transforms.read_http import read_http

    return read_http(uri, max_bytes, settings.http)


def _read_s3(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:  # noqa: ARG001
    from transforms.read_s3 import read_s3

    return read_s3(uri, max_bytes)


def _read_gs(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:  # noqa: ARG001
    from transforms.read_gs import read_gs

    return read_gs(uri, max_bytes)


def _read_beam(uri: str, max_bytes: int, settings: ReadBytes) -> bytes:
    from transforms.read_beam import read_beam

    return read_beam(uri, max_bytes, dict(settings.options))


TAR_MEMBER = "tar-member"  # of a plan's `plan_reader.SOURCE`
SCHEMES: dict[str, Callable[[str, int, ReadBytes], bytes]] = {
    "": _read_local,
    "file": _read_local,
    TAR_MEMBER: _read_tar_member,
    "http": _read_http,
    "https": _read_http,
    "s3": _read_s3,
    "gs": _read_gs,
    "azfs": _read_beam,
    "hdfs": _read_beam,
}
EXTRAS = {  # scheme -> our extra with its client, and the module that shows whether it is installed
    "s3": ("aws", "boto3"),
    "gs": ("gcp", "google.cloud.storage"),
    "azfs": ("azure", "azure.storage.blob"),
    "hdfs": ("hadoop", "hdfs"),
}


def why_unreadable(scheme: str) -> str | None:
    """Why no URI of `scheme` can be read here: unknown, or its library is not installed; None where they can."""
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES if name not in ("", TAR_MEMBER))
        return f"cannot read {scheme}:// URIs; local paths and {known} can be read"
    extra, module = EXTRAS.get(scheme, ("", ""))
    if not module or _is_installed(module):
        return None
    return f"{scheme}:// needs an extra that is not installed: pip install 'hublabel[{extra}]'"


@functools.cache
def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package around it is not there
        return False
