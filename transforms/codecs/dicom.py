"""DICOM through tensorflow-io (DCMTK), which alone reads it; structure and window are read here.

DCMTK fills what a truncated file lacks with whatever memory holds and reports no error: the elements are walked first.
"""

from __future__ import annotations

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
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TRANSFER_SYNTAX = 0x00020010
_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103
_CENTER, _WIDTH, _INTERCEPT, _SLOPE = 0x00281050, 0x00281051, 0x00281052, 0x00281053
_PIXELS = 0x7FE00010


@dataclass(frozen=True)
class _Element:
    tag: int
    start: int
    length: int


@dataclass(frozen=True)
class _Dataset:
    """The few attributes that decide pixels (DICOM PS3.3, C.7.6.3), each as its raw bytes."""

    values: dict[int, bytes]
    order: str
    native: int | None  # bytes of pixel data that is not encapsulated

    def number(self, tag: int, default: int) -> int:
        value = self.values.get(tag, b"")
        return struct.unpack_from(self.order + "H", value)[0] if len(value) >= 2 else default

    def decimal(self, tag: int) -> float | None:
        """The first value of a decimal string, None where there is none."""
        try:
            return float(self.values[tag].split(b"\\")[0].strip(b" \0"))
        except (KeyError, ValueError):
            return None

    @property
    def frames(self) -> int:
        return max(1, int(self.decimal(_FRAMES) or 1))


def read_header(data: bytes) -> Header:
    """Walk the elements up to the pixel data: rows, columns, and whether the pixels are all there."""
    dataset = _read(data)
    height, width = dataset.number(_ROWS, 0), dataset.number(_COLUMNS, 0)
    if not height or not width:
        raise corrupt(f"the DICOM's header gives a size of {width} x {height}")
    samples = dataset.number(_SAMPLES, 1)
    needed = height * width * samples * dataset.number(_ALLOCATED, 8) // 8
    if dataset.native is not None and dataset.native < needed:
        raise truncated(f"the DICOM holds {dataset.native:,} of {needed:,} bytes of pixels")
    return Header("dicom", width, height, 1, samples)


def _read(data: bytes) -> _Dataset:
    try:
        return _walk(data)
    except (struct.error, IndexError) as error:
        raise _cut(data) from error


def _cut(data: bytes) -> ImageError:
    return truncated(f"the DICOM ends before its pixels are complete, after {len(data):,} bytes")


def _walk(data: bytes) -> _Dataset:
    values: dict[int, bytes] = {}
    at = 132
    for element in _elements(data, at, True, "<"):
        if element.tag >> 16 != 2:
            break
        values[element.tag] = data[element.start : element.start + element.length]
        at = element.start + element.length
    syntax = values.get(_TRANSFER_SYNTAX, b"").strip(b" \0").decode("ascii", "replace")
    if syntax == _DEFLATED:
        raise unsupported("the DICOM's data set is deflated, which is not decoded")
    order = ">" if syntax == _BIG_ENDIAN else "<"
    for element in _elements(data, at, syntax != _IMPLICIT, order):
        if element.tag == _PIXELS:
            return _Dataset(values, order, _pixel_bytes(data, element))
        if element.tag >> 16 == 0x0028:
            values[element.tag] = data[element.start : element.start + element.length]
    raise corrupt("the DICOM holds no pixel data")


def _elements(data: bytes, at: int, explicit: bool, order: str) -> Iterator[_Element]:
    """Yield the elements of the outermost level (PS3.5, chapter 7); sequences without a length are stepped through."""
    depth = 0
    while at < len(data):
        group, number = struct.unpack_from(order + "HH", data, at)
        tag = group << 16 | number
        if not explicit or group == 0xFFFE:
            (length,) = struct.unpack_from(order + "I", data, at + 4)
            start = at + 8
        elif data[at + 4 : at + 6] in _LONG_LENGTH:
            (length,) = struct.unpack_from(order + "I", data, at + 8)
            start = at + 12
        else:
            (length,) = struct.unpack_from(order + "H", data, at + 6)
            start = at + 8
        if tag == _PIXELS and depth == 0:
            yield _Element(tag, start, length)
            return
        if tag == _SEQUENCE_END:
            depth -= 1
        if length == _UNDEFINED:
            depth += tag != _ITEM
            at = start
            continue
        if start + length > len(data):
            raise _cut(data)
        if depth == 0 and tag not in (_ITEM, _ITEM_END, _SEQUENCE_END):
            yield _Element(tag, start, length)
        at = start + length


def _pixel_bytes(data: bytes, pixels: _Element) -> int | None:
    """Bytes of native pixel data; None for encapsulated data whose fragments are all there (PS3.5, A.4)."""
    if pixels.length != _UNDEFINED:
        return min(pixels.length, len(data) - pixels.start)
    at = pixels.start
    while True:
        group, number, length = struct.unpack_from("<HHI", data, at)
        if group << 16 | number == _SEQUENCE_END:
            return None
        if at + 8 + length > len(data):
            raise _cut(data)
        at += 8 + length


def decode(data: bytes, header: Header, max_pixels: int) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]`.

    Grey values go through the file's first window (PS3.3, C.11.2.1.2, linear); without one the whole range of
    the stored bits becomes 0 to 255, as tensorflow-io maps it.

    Raises:
        ImageError: `too_many_pixels` where all frames together, which are decoded at once, exceed `max_pixels`.
    """
    import tensorflow as tf
    import tensorflow_io as tfio

    dataset = _read(data)
    if header.width * header.height * dataset.frames > max_pixels:
        frames = f"{dataset.frames:,} frames of {header.width} x {header.height} pixels"
        raise ImageError("decode", "too_many_pixels", f"the DICOM holds {frames}; {max_pixels:,} pixels are allowed")
    # "lossy" leaves an empty tensor instead of an error: ours names the reason
    frames = tfio.image.decode_dicom_image(data, on_error="lossy", scale="auto", dtype=tf.float32).numpy()
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
