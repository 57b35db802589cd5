"""BMP: plain 24 and 32 bits through TensorFlow, palettes, run lengths and bit fields through Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np

from transforms.codecs.common import Header, corrupt, operand, truncated

_CORE_HEADER, _INFO_HEADER = 12, 40
_UNCOMPRESSED = 0


def read_header(data: bytes) -> Header:
    """Read the DIB header behind the file header (BITMAPCOREHEADER or BITMAPINFOHEADER and its successors)."""
    if len(data) < 26:
        raise truncated(f"the BMP ends inside its header, after {len(data):,} bytes")
    (size,) = struct.unpack_from("<I", data, 14)
    if size == _CORE_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
    elif size >= _INFO_HEADER:
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        raise corrupt(f"the BMP's header claims an impossible length of {size} bytes")
    if width <= 0 or height == 0:
        raise corrupt(f"the BMP's header gives a size of {width} x {height}")
    return Header("bmp", width, abs(height))


def decode(data: bytes, header: Header) -> np.ndarray:
    """Decode to uint8 `[H, W, 3]` RGB. The fourth byte of plain 32-bit pixels is unused by the format, not alpha."""
    row = plain_row_bytes(data, header)
    if row is None:
        return _pillow(data)
    (offset,) = struct.unpack_from("<I", data, 10)
    if offset + row * header.height > len(data):
        raise truncated(f"the BMP ends before its picture is complete, after {len(data):,} bytes")
    return _tensorflow(data)


def plain_row_bytes(data: bytes, header: Header) -> int | None:
    """Bytes of a row of plain 24 or 32-bit pixels, padding included; None where pixels are stored in another way."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size < _INFO_HEADER or len(data) < 34:
        return None
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in (24, 32) or compression != _UNCOMPRESSED:
        return None
    return (header.width * bits // 8 + 3) // 4 * 4


def _tensorflow(data: bytes) -> np.ndarray:
    import tensorflow as tf

    return np.ascontiguousarray(tf.io.decode_bmp(operand(data)).numpy()[..., :3])


def _pillow(data: bytes) -> np.ndarray:
    from PIL.BmpImagePlugin import BmpImageFile

    with BmpImageFile(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
