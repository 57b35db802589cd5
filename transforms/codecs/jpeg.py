"""JPEG: libjpeg-turbo through simplejpeg, TensorFlow's decoder where simplejpeg stumbles over a harmless warning."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from transforms.codecs import exif
from transforms.codecs.common import Header, corrupt, operand, three_channels, truncated
from transforms.errors import ImageError

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}
_SOS, _APP1 = 0xDA, 0xE1
# libjpeg's warnings that stand for pixels it had to invent (jerror.h). Others, such as stray bytes before
# a marker or an unknown JFIF revision, leave the picture whole.
_DAMAGE = ("premature end of data", "bad huffman", "bad arithmetic", "instead of rst", "inconsistent progression")
_CUT = "premature end of jpeg file"


def read_header(data: bytes) -> Header:
    """Walk the markers up to the first scan (ITU-T T.81, B.1): size, components, EXIF orientation."""
    size: tuple[int, int, int] | None = None
    turn = 1
    for marker, start, end in _segments(data):
        if marker in _SOF:
            height, width, components = _frame(data, start, end)
            size = (width, height, components)
        elif marker == _APP1 and data[start : start + 6] == b"Exif\0\0":
            turn = exif.orientation(data[start:end])
        elif marker == _SOS:
            break
    if size is None:
        raise corrupt("the JPEG has a scan but no frame header")
    width, height, components = size
    if not width or not height:
        raise corrupt(f"the JPEG's header gives a size of {width} x {height}")
    return Header("jpeg", width, height, turn, components)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's payload, up to and including the first SOS."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at + 1 : at + 2] == b"\xff":
            at += 1
        if data[at : at + 2] == b"\xff\xd9" and at >= 0:
            raise corrupt("the JPEG ends before any picture data")
        if at < 0 or at + 4 > len(data):
            raise truncated(f"the JPEG ends inside its header, after {len(data):,} bytes")
        marker = data[at + 1]
        if marker in _ALONE or marker == 0:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + max(length, 2)
        if end > len(data):
            raise truncated(f"the JPEG ends inside its header, after {len(data):,} bytes")
        yield marker, at + 4, end
        if marker == _SOS:
            return
        at = end


def _frame(data: bytes, start: int, end: int) -> tuple[int, int, int]:
    if end - start < 6:
        raise corrupt("the JPEG's frame header is too short")
    _, height, width, components = struct.unpack_from(">BHHB", data, start)
    return height, width, components


def decode(data: bytes, header: Header, reduction: int = 1) -> np.ndarray:
    """Decode to uint8 `[H, W, 3]` RGB as stored (orientation is not applied), shrunk by `reduction`: 1, 2, 4 or 8.

    The accurate integer DCT and smooth chroma upsampling, as Pillow uses and unlike TensorFlow's default. An ICC
    profile is ignored. Four components are CMYK or YCCK as Adobe writes them, inverted: `R = C * K / 255`.

    Raises:
        ImageError: `truncated`, or `corrupt` for damage that would leave invented pixels.
    """
    try:
        return _simplejpeg(data, header, reduction)
    except ValueError as error:
        message = str(error).lower()
    if _CUT in message:
        raise truncated(f"the JPEG ends before its picture is complete, after {len(data):,} bytes")
    # Without an Adobe marker TensorFlow takes CMYK for not inverted: no second opinion there.
    if header.components == 4 or any(damage in message for damage in _DAMAGE):
        raise _damaged(data)
    return _tensorflow(data, reduction)


def decode_partial(data: bytes, header: Header, reduction: int = 1) -> np.ndarray:
    """As `decode`, of a file that ends too early: what is not there is grey, or blurred in a progressive file."""
    return _simplejpeg(data, header, reduction, strict=False)


def _simplejpeg(data: bytes, header: Header, reduction: int, strict: bool = True) -> np.ndarray:
    import simplejpeg

    options: dict[str, Any] = {"strict": strict}
    if reduction > 1:
        height, width = header.height // reduction, header.width // reduction
        options |= {"min_height": height, "min_width": width, "min_factor": reduction}
    if header.components == 4:
        return _from_cmyk(simplejpeg.decode_jpeg(data, "CMYK", **options))
    if header.components == 1:
        return three_channels(simplejpeg.decode_jpeg(data, "GRAY", **options))
    return simplejpeg.decode_jpeg(data, "RGB", **options)


def _from_cmyk(inverted: np.ndarray) -> np.ndarray:
    ink = inverted.astype(np.uint16)
    return ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)


def _tensorflow(data: bytes, reduction: int) -> np.ndarray:
    """Second opinion; it raises on truncated data too, and ignores the warnings simplejpeg raises for."""
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(
            operand(data), channels=3, ratio=reduction, acceptable_fraction=1.0, dct_method="INTEGER_ACCURATE"
        ).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise _damaged(data) from error


def _damaged(data: bytes) -> ImageError:
    if b"\xff\xd9" not in data[-4096:]:
        return truncated(f"the JPEG ends before its picture is complete, after {len(data):,} bytes")
    return corrupt("the JPEG's picture data is damaged")
