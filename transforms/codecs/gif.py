"""GIF through TensorFlow (giflib): the first frame alone, laid over the background."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from transforms.codecs.common import Header, corrupt, operand, truncated

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read_header(data: bytes, whole: bool = True) -> Header:
    """Read the logical screen (GIF89a, section 18), widened where the first frame reaches beyond it, as Pillow does.

    Unless it must be `whole`, the first frame's data may end anywhere.
    """
    if len(data) < 13:
        raise truncated(f"the GIF ends inside its header, after {len(data):,} bytes")
    width, height = struct.unpack_from("<HH", data, 6)
    frame = _first_frame(data, whole)
    if not frame.width or not frame.height:
        raise corrupt(f"the GIF's first frame has a size of {frame.width} x {frame.height}")
    return Header("gif", max(width, frame.left + frame.width), max(height, frame.top + frame.height))


@dataclass(frozen=True)
class _Frame:
    left: int
    top: int
    width: int
    height: int
    descriptor: int  # where the image descriptor begins
    control: int | None  # where the flags of the graphic control extension are
    palette: int  # where the colour table in force begins
    colours: int
    end: int  # just behind the frame's data


def decode(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]` RGB, what it leaves of the canvas filled with the background.

    The decoder gets a file of this frame alone: it would decode the later ones too, paint transparent pixels black
    and cut off frames that do not begin at the corner.
    """
    import tensorflow as tf

    frame = _first_frame(data)
    single = bytearray(data[: frame.end])
    single.append(_TRAILER)
    if frame.control is not None and single[frame.control] & 1:
        transparent = single[frame.control + 3]
        if transparent < frame.colours:
            at = frame.palette + 3 * transparent
            single[at : at + 3] = bytes(background)
        single[frame.control] &= 0xFE
    struct.pack_into("<HH", single, frame.descriptor + 1, 0, 0)
    pixels = tf.io.decode_gif(operand(bytes(single))).numpy()[0]
    if pixels.shape[:2] == (header.height, header.width):
        return pixels
    canvas = np.empty((header.height, header.width, 3), np.uint8)
    canvas[:] = background
    canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
    return canvas


def _first_frame(data: bytes, whole: bool = True) -> _Frame:
    """Find the first image descriptor and the end of its data; raises `truncated` or `corrupt`."""
    try:
        return _walk(data, whole)
    except (IndexError, struct.error) as error:
        raise truncated(f"the GIF ends before its first frame is complete, after {len(data):,} bytes") from error


def _walk(data: bytes, whole: bool) -> _Frame:
    palette, colours = 13, _colours(data[10])
    at = 13 + 3 * colours
    control: int | None = None
    while data[at] == _EXTENSION:
        if data[at + 1] == _GRAPHIC_CONTROL and data[at + 2] >= 4:
            control = at + 3
        at = _skip_blocks(data, at + 2)
    if data[at] != _IMAGE:
        raise corrupt("the GIF holds no frame")
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    body = at + 10
    if flags & 0x80:
        palette, colours = body, _colours(flags)
        body += 3 * colours
    end = _skip_blocks(data, body + 1) if whole else len(data)
    return _Frame(left, top, width, height, at, control, palette, colours, end)


def _colours(flags: int) -> int:
    """Entries of a colour table, from the flags before it."""
    return 2 << (flags & 7) if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1
