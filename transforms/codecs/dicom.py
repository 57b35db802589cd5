"""DICOM through tensorflow-io (DCMTK), which alone reads it; structure and window are read here.

DCMTK fills what a truncated file lacks with whatever memory holds and reports no error: the elements are walked first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from transforms.codecs.common import Header, corrupt, three_channels, truncated, unsupported
from transforms.errors import ImageError

_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LONG_LENGTH = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_TRANSFER_SYNTAX = 0x00020010
_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103
_CENTER, _WIDTH, _INTERCEPT, _SLOPE = 0x00281050, 0x00281051, 0x00281052, 0x00281053
_PIXELS = 0x7FE00010


@dataclass(frozen=True)
class _Element:
    tag: int
    begin: int  # of the tag
    start: int  # of the value
    end: int | None  # None for pixel data without a length


@dataclass(frozen=True)
class _Dataset:
    """What decides pixels (DICOM PS3.3, C.7.6.3): the image pixel group's values, and that group as it is encoded."""

    values: dict[int, bytes]
    order: str
    syntax: bytes
    group: bytes
    pixels: _Element

    def number(self, tag: int, default: int) -> int:
        value = self.values.get(tag, b"")
        return struct.unpack_from(self.order + "H", value)[0] if len(value) >= 2 else default

    def decimal(self, tag: int) -> float | None:
        """The first value of a decimal string, None where there is none."""
        try:
            value = float(self.values[tag].split(b"\\")[0].strip(b" \0"))
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of native pixels."""
        samples = self.number(_ROWS, 0) * self.number(_COLUMNS, 0) * self.number(_SAMPLES, 1)
        return (samples * self.number(_ALLOCATED, 8) + 7) // 8


def read_header(data: bytes) -> Header:
    """Walk the elements up to the pixel data: rows, columns, and whether the pixels are all there."""
    dataset = _read(data)
    height, width = dataset.number(_ROWS, 0), dataset.number(_COLUMNS, 0)
    if not height or not width:
        raise corrupt(f"the DICOM's header gives a size of {width} x {height}")
    pixels = dataset.pixels
    if pixels.end is not None and pixels.end - pixels.start < dataset.frame_bytes:
        raise truncated(f"the DICOM holds {pixels.end - pixels.start:,} of {dataset.frame_bytes:,} bytes of pixels")
    return Header("dicom", width, height, 1, dataset.number(_SAMPLES, 1))


def _read(data: bytes) -> _Dataset:
    try:
        return _walk(data)
    except struct.error as error:
        raise _cut(data) from error


def _cut(data: bytes) -> ImageError:
    return truncated(f"the DICOM ends before its pixels are complete, after {len(data):,} bytes")


def _walk(data: bytes) -> _Dataset:
    values: dict[int, bytes] = {}
    at, syntax, group = 132, b"", b""
    for element in _elements(data, at, True, "<"):
        if element.tag >> 16 != 2 or element.end is None:
            break
        at = element.end
        if element.tag == _TRANSFER_SYNTAX:
            syntax = data[element.start : element.end]
    name = syntax.strip(b" \0").decode("ascii", "replace")
    if name == _DEFLATED:
        raise unsupported("the DICOM's data set is deflated, which is not decoded")
    order = ">" if name == _BIG_ENDIAN else "<"
    for element in _elements(data, at, name != _IMPLICIT, order):
        if element.tag == _PIXELS:
            _check_fragments(data, element)
            return _Dataset(values, order, syntax, group, element)
        if element.tag >> 16 == 0x0028 and element.tag != _FRAMES:
            values[element.tag] = data[element.start : element.end]
            group += data[element.begin : element.end]
    raise corrupt("the DICOM holds no pixel data")


def _elements(data: bytes, at: int, explicit: bool, order: str) -> Iterator[_Element]:
    """Yield the outermost elements (PS3.5, chapter 7) up to the pixels; a sequence without a length is one of them."""
    depth = 0
    outermost, value, name = at, at, 0
    while at < len(data):
        tag, start, length = _tag(data, at, explicit, order)
        if depth == 0:
            outermost, value, name = at, start, tag
        end = None if length == _UNDEFINED else start + length
        if end is not None and end > len(data):
            if tag == _PIXELS:
                raise truncated(f"the DICOM holds {len(data) - start:,} of {length:,} bytes of pixels")
            raise _cut(data)
        if tag == _PIXELS and depth == 0:
            yield _Element(tag, at, start, end)
            return
        # Items without a length are stepped into, with one they are stepped over.
        depth += (end is None and tag != _ITEM) - (tag == _SEQUENCE_END)
        at = start if end is None else end
        if depth == 0:
            yield _Element(name, outermost, value, at)


def _tag(data: bytes, at: int, explicit: bool, order: str) -> tuple[int, int, int]:
    """Tag, start of the value and its length."""
    group, number = struct.unpack_from(order + "HH", data, at)
    if not explicit or group == 0xFFFE:
        return group << 16 | number, at + 8, struct.unpack_from(order + "I", data, at + 4)[0]
    if data[at + 4 : at + 6] in _LONG_LENGTH:
        return group << 16 | number, at + 12, struct.unpack_from(order + "I", data, at + 8)[0]
    return group << 16 | number, at + 8, struct.unpack_from(order + "H", data, at + 6)[0]


def _check_fragments(data: bytes, pixels: _Element) -> None:
    """Raise `truncated` unless all fragments of encapsulated pixels are there (PS3.5, A.4)."""
    at = pixels.start
    while pixels.end is None:
        group, number, length = struct.unpack_from("<HHI", data, at)
        if group << 16 | number == _SEQUENCE_END:
            return
        at += 8 + length
        if at > len(data):
            raise _cut(data)


def _reduced(data: bytes, dataset: _Dataset) -> bytes:
    """A file of the image pixel group alone, and of native pixels the first frame alone.

    The library decodes all frames at once, and what it does not see it cannot stumble over.
    """
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(dataset.syntax)) + dataset.syntax
    head = b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta + dataset.group
    pixels = dataset.pixels
    if pixels.end is None:
        return head + data[pixels.begin :]
    # Pixel data must have an even length.
    frame = data[pixels.start : pixels.start + dataset.frame_bytes]
    frame += b"\0" * (len(frame) % 2)
    return head + data[pixels.begin : pixels.start - 4] + struct.pack(dataset.order + "I", len(frame)) + frame


def decode(data: bytes, header: Header) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]`.

    Grey values go through the file's first window (PS3.3, C.11.2.1.2, linear); without one the whole range of
    the stored bits becomes 0 to 255, as tensorflow-io maps it.
    """
    import tensorflow as tf
    import tensorflow_io as tfio

    dataset = _read(data)
    # "lossy" leaves an empty tensor instead of an error: ours names the reason
    frames = tfio.image.decode_dicom_image(
        _reduced(data, dataset), on_error="lossy", scale="auto", dtype=tf.float32
    ).numpy()
    if frames.ndim != 4 or frames.shape[1:3] != (header.height, header.width):
        raise corrupt("the DICOM's pixel data cannot be decoded")
    shades = frames[0]
    if shades.shape[2] == 1:
        shades = three_channels(_windowed(shades, dataset))
    return np.rint(shades * 255).astype(np.uint8)


def _windowed(shades: np.ndarray, dataset: _Dataset) -> np.ndarray:
    """Apply the window to fractions [0, 1] of the range of modality values (stored * slope + intercept)."""
    center, width = dataset.decimal(_CENTER), dataset.decimal(_WIDTH)
    if center is None or width is None or width < 1:
        return shades
    stored = dataset.number(_STORED, dataset.number(_ALLOCATED, 8))
    low = -(1 << stored >> 1) if dataset.number(_SIGNED, 0) else 0
    high = low + (1 << stored) - 1
    slope, intercept = dataset.decimal(_SLOPE), dataset.decimal(_INTERCEPT)
    first, last = sorted((value * (1.0 if slope is None else slope) + (intercept or 0.0)) for value in (low, high))
    inverted = dataset.values.get(_PHOTOMETRIC, b"").strip(b" \0") == b"MONOCHROME1"
    values = first + (1 - shades if inverted else shades) * (last - first)
    grey = np.clip((values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1)
    return 1 - grey if inverted else grey
