"""PNG through TensorFlow (libpng): palettes, 1 to 16 bits, interlacing; alpha laid over the background."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from transforms.codecs import exif
from transforms.codecs.common import Header, compose, corrupt, operand, truncated

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_GREY_ALPHA, _RGB_ALPHA = 4, 6


def read_header(data: bytes, whole: bool = True) -> Header:
    """Walk the chunks (PNG 3rd edition, 5.3): size, alpha (`components` 4), orientation of `eXIf`, and the end.

    Unless it must be `whole`, the file may end anywhere behind the first chunk.
    """
    if len(data) < 33:
        raise truncated(f"the PNG ends inside its header, after {len(data):,} bytes")
    if data[12:16] != b"IHDR":
        raise corrupt("the PNG does not begin with its header chunk")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        raise corrupt(f"the PNG's header gives a size of {width} x {height}")
    alpha, turn = colour in (_GREY_ALPHA, _RGB_ALPHA), 1
    for kind, start, end in chunks(data, whole):
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            turn = exif.orientation(data[start:end])
    return Header("png", width, height, turn, 4 if alpha else 3)


def chunks(data: bytes, whole: bool = True) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk's data, up to `IEND`; unless `whole`, the last one may be cut short."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            if not whole:
                yield kind, at + 8, min(at + 8 + length, len(data))
            break
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    if whole:
        raise truncated(f"the PNG ends before its picture is complete, after {len(data):,} bytes")


def decode(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    """Decode to uint8 `[H, W, 3]` RGB as stored; of 16 bits the upper 8 are kept.

    Checksums are compared here first: each call of TensorFlow 2.16 that fails leaks some kilobytes.
    """
    import tensorflow as tf

    for kind, start, end in chunks(data):
        if kind in _CRITICAL and zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise corrupt(f"the PNG's {kind.decode()} chunk does not have its checksum")
    pixels = tf.io.decode_png(operand(data), channels=header.components).numpy()
    return compose(pixels, background) if header.components == 4 else pixels
