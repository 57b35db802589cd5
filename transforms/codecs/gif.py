"""GIF through TensorFlow (giflib): the first frame alone, laid over the background."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from transforms.codecs.common import Header, corrupt, truncated

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read_header(data: bytes) -> Header:
    """Read the logical screen (GIF89a, section 18): width and height of the canvas."""
    if len(data) < 13:
        raise truncated(f"the GIF ends inside its header, after {len(data):,} bytes")
    width, height = struct.unpack_from("<HH", data, 6)
    if not width or not height:
        raise corrupt(f"the GIF's header gives a size of {width} x {height}")
    return Header("gif", width, height)


@dataclass(frozen=True)
class _Frame:
    left: int
    top: int
    width: int
    height: int
    palette: tuple[int, int]  # start and entries of the colour table in force
    transparent: int | None
    end: int  # just behind the frame's data


def decode(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]` RGB.

    Later frames are cut off before the decoder sees them: it would decode them all. A transparent colour is given
    the background's value, and what the frame leaves of the canvas is filled with it.
    """
    import tensorflow as tf

    frame = _first_frame(data)
    single = bytearray(data[: frame.end] + bytes([_TRAILER]))
    start, entries = frame.palette
    if frame.transparent is not None and frame.transparent < entries:
        at = start + 3 * frame.transparent
        single[at : at + 3] = bytes(background)
    canvas = tf.io.decode_gif(bytes(single)).numpy()[0]
    if (frame.width, frame.height) == (header.width, header.height):
        return canvas
    filled = np.full_like(canvas, background)
    inside = np.s_[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
    filled[inside] = canvas[inside]
    return filled


def _first_frame(data: bytes) -> _Frame:
    """Find the first image descriptor and the end of its data; raises `truncated` or `corrupt`."""
    try:
        return _walk(data)
    except (IndexError, struct.error) as error:
        raise truncated(f"the GIF ends before its first frame is complete, after {len(data):,} bytes") from error


def _walk(data: bytes) -> _Frame:
    flags = data[10]
    palette = (13, 2 << (flags & 7)) if flags & 0x80 else (13, 0)
    at = 13 + 3 * palette[1]
    transparent: int | None = None
    while data[at] == _EXTENSION:
        if data[at + 1] == _GRAPHIC_CONTROL and data[at + 2] >= 4:
            transparent = data[at + 6] if data[at + 3] & 1 else None
        at = _skip_blocks(data, at + 2)
    if data[at] != _IMAGE:
        raise corrupt("the GIF holds no frame")
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    at += 10
    if flags & 0x80:
        palette = (at, 2 << (flags & 7))
        at += 3 * palette[1]
    return _Frame(left, top, width, height, palette, transparent, _skip_blocks(data, at + 1))


def _skip_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1
