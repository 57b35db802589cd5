"""URIs of the plan: absolute local paths without a scheme, everything else as it stands.

A local path whose bytes are no UTF-8 cannot be a Parquet string. It becomes a `file://` URI with its bytes
percent-encoded (RFC 8089), which the reader turns back into the same bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, unquote_to_bytes

if TYPE_CHECKING:
    import pyarrow as pa

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_SCHEME_BYTES = re.compile(SCHEME.pattern.encode())
_FILE_URI = re.compile(rb"file://(?:localhost)?(?=/)", re.IGNORECASE)
_ASCII = "".join(map(chr, range(128)))


def path_of_file_uri(uri: bytes) -> bytes | None:
    """The local path a `file://` URI names, percent-decoded; None for another scheme or another host."""
    if match := _FILE_URI.match(uri):
        return unquote_to_bytes(uri[match.end() :])
    return None


def uri_of_path(path: bytes) -> str:
    """The plan's URI of an absolute local path of any bytes."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return "file://" + quote_from_bytes(path)


def uri_of_line(line: bytes, folder: bytes) -> str:
    """The plan's URI of one non-blank line of a text file; a relative path is joined to `folder`."""
    if (path := path_of_file_uri(line)) is not None:
        return uri_of_path(path)
    if _SCHEME_BYTES.match(line):
        return line.decode("utf-8") if _is_utf8(line) else quote_from_bytes(line, safe=_ASCII)
    return uri_of_path(line if line.startswith(b"/") else folder + b"/" + line.removeprefix(b"./"))


def resolve_uris(uris: pa.StringArray, folder: bytes) -> pa.StringArray:
    """`uri_of_line` of many: local paths and `file://` URIs become absolute paths, other schemes stay as they are.

    Args:
        uris: none null, none empty.
        folder: absolute, without a slash at its end; what relative paths are joined to.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        prefix = folder.decode("utf-8") + "/"
    except UnicodeDecodeError:
        return pa.array([uri_of_line(uri.encode(), folder) for uri in uris.to_pylist()], pa.string())
    has_scheme = pc.match_substring_regex(uris, pattern="^" + SCHEME.pattern)
    if not pc.any(has_scheme).as_py():
        return _joined(uris, prefix)
    is_file_uri = pc.match_substring_regex(uris, pattern="^file://", ignore_case=True)
    resolved = pc.if_else(has_scheme, uris, _joined(uris, prefix))
    if not pc.any(is_file_uri).as_py():
        return resolved
    paths = [uri_of_line(uri.encode(), folder) for uri in uris.filter(is_file_uri).to_pylist()]
    return pc.replace_with_mask(resolved, is_file_uri, pa.array(paths, pa.string()))


def _joined(uris: pa.StringArray, prefix: str) -> pa.StringArray:
    import pyarrow.compute as pc

    is_absolute = pc.starts_with(uris, pattern="/")
    if pc.all(is_absolute).as_py() is not False:
        return uris
    relative = pc.replace_substring_regex(uris, pattern=r"^\./", replacement="")
    return pc.if_else(is_absolute, uris, pc.binary_join_element_wise(prefix, relative, ""))


def uri_array(paths: list[bytes]) -> pa.StringArray:
    """`uri_of_path` of many absolute local paths."""
    import pyarrow as pa

    try:
        return pa.array(paths, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(map(uri_of_path, paths), pa.string())


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
