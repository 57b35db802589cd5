"""URIs of the plan: absolute local paths without a scheme, everything else as it stands.

What is relative is joined to a folder, which is local or on an object store (`s3://BUCKET/FOLDER`).

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
_DOTS = re.compile(rb"(?:^|/)\.\.?(?:/|$)")


def path_of_file_uri(uri: bytes) -> bytes | None:
    """The local path a `file://` URI names, percent-decoded; None for another scheme or another host."""
    if match := _FILE_URI.match(uri):
        return unquote_to_bytes(uri[match.end() :])
    return None


def uri_of_path(path: bytes) -> str:
    """The plan's URI of an absolute local path, or of a URI, of any bytes."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return quote_from_bytes(path, safe=_ASCII) if _SCHEME_BYTES.match(path) else "file://" + quote_from_bytes(path)


def uri_of_line(line: bytes, folder: bytes) -> str:
    """The plan's URI of one non-blank line of a text file; a relative path is joined to `folder`."""
    if (path := path_of_file_uri(line)) is not None:
        return uri_of_path(path)
    if line.startswith(b"/") or _SCHEME_BYTES.match(line):
        return uri_of_path(line)
    if _DOTS.search(line) and _SCHEME_BYTES.match(folder):
        return uri_of_path(_without_dots(line, folder))
    return uri_of_path(folder + b"/" + line.removeprefix(b"./"))


def _without_dots(line: bytes, folder: bytes) -> bytes:
    """A path joined to a folder of a store, where `..` would be a name: resolved as in RFC 3986, 5.2.4."""
    scheme, _, place = folder.partition(b"://")
    bucket, *names = place.split(b"/")
    for name in line.split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name != b".":
            names.append(name)
    return scheme + b"://" + b"/".join([bucket, *names])


def resolve_uris(uris: pa.StringArray, folder: bytes) -> pa.StringArray:
    """`uri_of_line` of many: local paths and `file://` URIs become absolute paths, other schemes stay as they are.

    Args:
        uris: none null, none empty.
        folder: absolute, or a URI; without a slash at its end; what relative paths are joined to.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        prefix = folder.decode("utf-8") + "/"
    except UnicodeDecodeError:
        return pa.array([uri_of_line(uri.encode(), folder) for uri in uris.to_pylist()], pa.string())
    has_scheme = pc.match_substring_regex(uris, pattern="^" + SCHEME.pattern)
    one_by_one = None
    if _SCHEME_BYTES.match(folder):
        one_by_one = pc.match_substring_regex(uris, pattern=_DOTS.pattern.decode())
    if not pc.any(has_scheme).as_py():
        resolved = _joined(uris, prefix)
    else:
        is_file_uri = pc.match_substring_regex(uris, pattern="^file://", ignore_case=True)
        one_by_one = is_file_uri if one_by_one is None else pc.or_(one_by_one, is_file_uri)
        resolved = pc.if_else(has_scheme, uris, _joined(uris, prefix))
    if one_by_one is None or not pc.any(one_by_one).as_py():
        return resolved
    paths = [uri_of_line(uri.encode(), folder) for uri in uris.filter(one_by_one).to_pylist()]
    return pc.replace_with_mask(resolved, one_by_one, pa.array(paths, pa.string()))


def _joined(uris: pa.StringArray, prefix: str) -> pa.StringArray:
    import pyarrow.compute as pc

    is_absolute = pc.starts_with(uris, pattern="/")
    if pc.all(is_absolute).as_py() is not False:
        return uris
    relative = pc.replace_substring_regex(uris, pattern=r"^\./", replacement="")
    return pc.if_else(is_absolute, uris, pc.binary_join_element_wise(prefix, relative, ""))


def uri_array(paths: list[bytes]) -> pa.StringArray:
    """`uri_of_path` of many absolute local paths, or URIs."""
    import pyarrow as pa

    try:
        return pa.array(paths, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(map(uri_of_path, paths), pa.string())
