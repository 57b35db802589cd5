"""Radiance HDR through tensorflow-io (stb_image).

It returns partial pictures without an error, so the runs of every row are walked first.
"""

from __future__ import annotations

import re

import numpy as np

from transforms.codecs.common import Header, corrupt, truncated, unsupported
from transforms.codecs.light import srgb
from transforms.errors import ImageError

_RESOLUTION = re.compile(rb"([+-][XY]) +(\d{1,9}) +([+-][XY]) +(\d{1,9})\s*$")
_LONGEST_HEADER = 65536
# Widths outside are never run-length encoded.
_RUN_WIDTHS = range(8, 32768)


def read_header(data: bytes) -> Header:
    """Read the text header and its resolution line (Radiance file formats): width and height."""
    width, height, _ = _header(data)
    return Header("hdr", width, height)


def _header(data: bytes) -> tuple[int, int, int]:
    """Width, height and where the pixels begin."""
    end = data.find(b"\n\n", 0, _LONGEST_HEADER)
    line = data.find(b"\n", end + 2, end + 130) if end >= 0 else -1
    if line < 0:
        if len(data) < _LONGEST_HEADER:
            raise truncated(f"the HDR ends inside its header, after {len(data):,} bytes")
        raise corrupt("the HDR's header has no end")
    found = _RESOLUTION.match(data[end + 2 : line])
    if found is None:
        raise corrupt("the HDR's header gives no size")
    first, height, second, width = found[1], int(found[2]), found[3], int(found[4])
    if (first, second) != (b"-Y", b"+X"):
        raise unsupported("the HDR's rows are not stored from top to bottom, left to right")
    if not width or not height:
        raise corrupt(f"the HDR's header gives a size of {width} x {height}")
    return width, height, line + 1


def decode(data: bytes) -> np.ndarray:
    """Decode to uint8 `[H, W, 3]` RGB: linear light clipped to [0, 1], sRGB's curve."""
    import tensorflow_io as tfio

    width, height, start = _header(data)
    try:
        _check_rows(data, width, height, start)
    except IndexError as error:
        raise _cut(data) from error
    return srgb(tfio.experimental.image.decode_hdr(data).numpy())


def _cut(data: bytes) -> ImageError:
    return truncated(f"the HDR ends before its picture is complete, after {len(data):,} bytes")


def _check_rows(data: bytes, width: int, height: int, start: int) -> None:
    """Raise unless every row is there; the decoder repeats what is missing and loops for ever over empty runs."""
    if width not in _RUN_WIDTHS or data[start : start + 2] != b"\2\2" or data[start + 2] & 0x80:
        if start + 4 * width * height > len(data):
            raise _cut(data)
        return
    at, row = start, b"\2\2" + width.to_bytes(2, "big")
    for _ in range(height):
        if data[at : at + 4] != row:
            raise _cut(data) if at + 4 > len(data) else corrupt("the HDR's rows do not follow each other")
        at += 4
        for _ in range(4):
            at = _channel_end(data, at, width)
    if at > len(data):
        raise _cut(data)


def _channel_end(data: bytes, at: int, width: int) -> int:
    column = 0
    while column < width:
        count = data[at]
        if count > 128:
            count -= 128
            at += 2
        else:
            at += 1 + count
        column += count
        if not count:
            raise corrupt("the HDR holds a run of no pixels")
    if column > width:
        raise corrupt("the HDR holds a run longer than its row")
    return at
