"""OpenEXR through tensorflow-io, which lets C++ exceptions of damaged files end the process.

So the header and every chunk's place are checked here, and OpenCV, which catches such exceptions, decodes first.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np

from transforms.codecs.common import Header, corrupt, three_channels, truncated, unsupported
from transforms.codecs.light import srgb
from transforms.errors import ImageError

_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
_FARTHEST = 1 << 24
# By the number of the compression attribute: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB
_ROWS_A_CHUNK = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)
_ROOT = ((b"R", b"G", b"B"), (b"Y",))


@dataclass(frozen=True)
class _Layout:
    width: int
    height: int
    channels: dict[bytes, int]  # name: 0 uint32, 1 half, 2 float
    compression: int
    tile: tuple[int, int] | None
    table: int  # where the offsets begin
    attributes: dict[bytes, bytes]


def read_header(data: bytes) -> Header:
    """Read the attributes of a single-part file (OpenEXR file layout): width and height of its data window."""
    layout = _read(data)
    return Header("openexr", layout.width, layout.height, 1, len(layout.channels))


def _read(data: bytes) -> _Layout:
    try:
        return _layout(data)
    except struct.error as error:
        raise _cut(data) from error


def _cut(data: bytes) -> ImageError:
    return truncated(f"the OpenEXR file ends before its picture is complete, after {len(data):,} bytes")


def _layout(data: bytes) -> _Layout:
    (version,) = struct.unpack_from("<I", data, 4)
    if version & (_DEEP | _MULTIPART):
        raise unsupported("the OpenEXR file has several parts or deep pixels; only single flat pictures are decoded")
    attributes, table = _attributes(data)
    try:
        left, top, right, bottom = struct.unpack("<4i", attributes[b"dataWindow"])
        (compression,) = attributes[b"compression"]
        channels = _channels(attributes[b"channels"])
        if len(attributes.get(b"lineOrder", b"\0")) != 1:
            raise ValueError("the order of lines is one byte")
        tile = struct.unpack_from("<IIB", attributes[b"tiles"]) if version & _TILED else None
    except (KeyError, ValueError, struct.error) as error:
        raise corrupt("the OpenEXR header lacks what a picture needs") from error
    width, height = right - left + 1, bottom - top + 1
    if list(channels) != sorted(channels):
        raise corrupt("the OpenEXR header's channels are not in order")
    if (
        width < 1
        or height < 1
        or max(map(abs, (left, top, right, bottom))) > _FARTHEST
        or compression >= len(_ROWS_A_CHUNK)
    ):
        raise corrupt(f"the OpenEXR header gives a size of {width} x {height}, compression {compression}")
    if tile is not None and (tile[2] & 0xF or not tile[0] or not tile[1]):
        raise unsupported("the OpenEXR file holds several resolutions; only one is decoded")
    return _Layout(width, height, channels, compression, tile[:2] if tile else None, table, attributes)


def _attributes(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Name to value, and where the header ends."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(data) and data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0:
            raise corrupt("the OpenEXR header holds an attribute of negative length")
        if at + 4 + size > len(data):
            raise _cut(data)
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    if at >= len(data):
        raise _cut(data)
    return found, at + 1


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise _cut(data) if len(data) < at + 256 else corrupt("the OpenEXR header holds a name without end")
    return data[at:end], end + 1


def _channels(value: bytes) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    at = 0
    while value[at : at + 1] != b"\0":
        name, at = _text(value, at)
        kind, _, across, down = struct.unpack_from("<iIii", value, at)
        if across != 1 or down != 1:
            raise unsupported("the OpenEXR file stores channels at different resolutions")
        if kind not in (0, 1, 2):
            raise corrupt(f"the OpenEXR header names an unknown pixel type, {kind}")
        found[name] = kind
        at += 16
    return found


def _rebuilt(data: bytes, layout: _Layout) -> bytes:
    """The same chunks behind a header of what matters alone: the libraries throw for anything odd in the rest.

    Raises:
        ImageError: unless every chunk lies inside the file.
    """
    window = layout.attributes[b"dataWindow"]
    kept = [
        (b"channels", b"chlist", layout.attributes[b"channels"]),
        (b"compression", b"compression", bytes([layout.compression])),
        (b"dataWindow", b"box2i", window),
        (b"displayWindow", b"box2i", window),
        (b"lineOrder", b"lineOrder", layout.attributes.get(b"lineOrder", b"\0")),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", struct.pack("<2f", 0, 0)),
        (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    ]
    if layout.tile is not None:
        kept.append((b"tiles", b"tiledesc", layout.attributes[b"tiles"]))
    version = struct.pack("<I", 2 | (_TILED if layout.tile else 0))
    fields = (name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value for name, kind, value in kept)
    head = data[:4] + version + b"".join(fields) + b"\0"
    offsets = _chunks(data, layout)
    moved = len(head) - layout.table
    table = struct.pack(f"<{len(offsets)}Q", *(offset + moved for offset in offsets))
    return head + table + data[layout.table + len(table) :]


def _chunks(data: bytes, layout: _Layout) -> tuple[int, ...]:
    """Where each chunk begins; raises unless all lie inside the file."""
    if layout.tile is None:
        chunks = -(-layout.height // _ROWS_A_CHUNK[layout.compression])
        head, size_at = 8, 4
    else:
        chunks = -(-layout.width // layout.tile[0]) * -(-layout.height // layout.tile[1])
        head, size_at = 20, 16
    if layout.table + chunks * 8 > len(data):
        raise _cut(data)
    offsets = struct.unpack_from(f"<{chunks}Q", data, layout.table)
    for offset in offsets:
        # A writer that was interrupted leaves zeros.
        if not offset or offset + head > len(data):
            raise _cut(data)
        if offset < layout.table + chunks * 8:
            raise corrupt("the OpenEXR file's table points outside its picture data")
        (size,) = struct.unpack_from("<I", data, offset + size_at)
        if offset + head + size > len(data):
            raise _cut(data)
    return offsets


def decode(data: bytes) -> np.ndarray:
    """Decode channels R, G, B, or Y alone, to uint8 `[H, W, 3]`; alpha is ignored.

    Linear light is clipped to [0, 1] and encoded with sRGB's curve.
    """
    import tensorflow as tf
    import tensorflow_io as tfio

    layout = _read(data)
    names = next((root for root in _ROOT if all(name in layout.channels for name in root)), None)
    if names is None:
        listed = ", ".join(sorted(name.decode("ascii", "replace") for name in layout.channels)[:8])
        raise unsupported(f"the OpenEXR file has neither R, G, B nor Y among its channels ({listed})")
    rebuilt = _rebuilt(data, layout)
    _probe(rebuilt, layout)
    # Asked for another type than the stored one, the decoder ends the process.
    kinds = (tf.uint32, tf.float16, tf.float32)
    planes = [
        srgb(tfio.experimental.image.decode_exr(rebuilt, 0, name, kinds[layout.channels[name]]).numpy())
        for name in names
    ]
    return np.stack(planes, axis=2) if len(planes) == 3 else three_channels(planes[0])


def _probe(data: bytes, layout: _Layout) -> None:
    # OpenCV reads this switch when it first meets an OpenEXR file.
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    import cv2

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_ANYDEPTH
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None or picture.shape[:2] != (layout.height, layout.width):
        raise corrupt("the OpenEXR file's picture data is damaged")
