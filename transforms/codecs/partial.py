"""`image.allow_truncated`: what there is of a picture whose file ends too early; the rest is grey where it can be.

Files are completed, not decoders told to be lenient: those have one switch for all threads (Pillow) or none.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from transforms.codecs import bmp, gif, jpeg, pillow, png
from transforms.codecs.common import Header, corrupt

GREY = 128  # as libjpeg paints what it lacks
FORMATS = ("jpeg", "png", "gif", "bmp", "webp", "tiff")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
_METADATA = 1 << 20  # bytes that a small picture's data may have more than its pixels
_ENDINGS = (b"\0", b"\x55", b"\xaa", b"\x11", b"\xff", b"\x92")
_ALPHA = 0x10  # of a WebP's flags
_EMPTY = 0.95  # of the pixels have one colour: nothing to speak of is there
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def read_header(name: str, data: bytes) -> Header | None:
    """The header of a file that ends too early; None where it does not say enough."""
    if name == "png":
        return png.read_header(data, whole=False)
    if name == "gif":
        return gif.read_header(data, whole=False)
    if name == "webp":
        return pillow.read_webp_header(data, whole=False)
    return None


def decode(data: bytes, header: Header, reduction: int, background: tuple[int, int, int]) -> np.ndarray | None:
    """Decode what there is to uint8 `[H, W, 3]` RGB as stored; None where that is less than a twentieth.

    Raises:
        ImageError, and whatever the libraries raise, when it cannot be done.
    """
    match header.format:
        case "jpeg":
            pixels = jpeg.decode_partial(data, header, reduction)
        case "png":
            pixels = _png(data, header, background)
        case "gif":
            pixels = pillow.decode_partial_gif(data, background)
        case "bmp":
            pixels = _bmp(data, header)
        case "webp":
            pixels = _webp(data, header, background)
        case "tiff":
            pixels = pillow.decode_tiff(data, header, background, partial=True)
        case _:
            return None
    # What is missing has one colour, and is above or below the rest.
    alike = max((pixels == corner).all(axis=2).mean() for corner in (pixels[0, 0], pixels[-1, -1]))
    return None if alike > _EMPTY else pixels


def _png(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    """The rows there are, compressed anew, with rows of zeros after them, which become grey."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _CHANNELS.get(colour, 4)
    sizes = _pass_sizes(width, height) if interlaced else [(width, height)]
    expected = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)
    kept, packed = b"", b""
    for kind, start, end in png.chunks(data, whole=False):
        if kind == b"IDAT":
            packed += data[start:end]
        elif kind in (b"PLTE", b"tRNS"):
            kept += _chunk(kind, data[start:end])
    try:
        rows = zlib.decompressobj().decompress(packed, expected) if packed else b""
    except zlib.error:
        raise corrupt("the PNG's data is damaged before it ends") from None
    body = zlib.compress(rows + bytes(expected - len(rows)), 1)
    whole = data[:8] + _chunk(b"IHDR", data[16:29]) + kept + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    pixels = png.decode(whole, header, background)
    if not interlaced:
        pixels[len(rows) // (1 + (width * bits + 7) // 8) :] = GREY
    return pixels


def _pass_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Columns and rows of the seven passes (PNG 3rd edition, 8.1)."""
    return [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in _PASSES]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _bmp(data: bytes, header: Header) -> np.ndarray:
    row = bmp.plain_row_bytes(data, header)
    if row is None:
        return pillow.decode_partial_bmp(data)
    (offset,) = struct.unpack_from("<I", data, 10)
    if offset > len(data):
        raise corrupt("the BMP's pixels begin behind its end")
    missing = offset + row * header.height - len(data)
    return bmp.decode(data + bytes([GREY]) * missing, header)


def _webp(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    """The decoder takes whole files only: it gets two with different endings, and what differs is made up."""
    first: np.ndarray | None = None
    for ending in _ENDINGS:
        try:
            pixels = pillow.decode_webp(_completed_webp(data, ending, header), background)
        except OSError:  # bits that mean nothing
            continue
        if first is not None:
            differs = np.flatnonzero((first != pixels).any(axis=(1, 2)))
            if len(differs):
                first[differs[0] :] = GREY
            return first
        first = pixels
    raise corrupt("the WebP's beginning cannot be completed")


def _completed_webp(data: bytes, ending: bytes, header: Header) -> bytes:
    """A file of the picture's chunk, as long as it should be, and of what it needs (RFC 9649)."""
    kept, at = b"", 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if kind in (b"VP8 ", b"VP8L"):
            if size > 4 * header.width * header.height + _METADATA:
                break
            body += ending * (size - len(body))
        elif kind == b"VP8X":
            body = bytes([body[0] & _ALPHA]) + body[1:]
        if kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH"):
            kept += data[at : at + 8] + body + b"\0" * (size & 1)
        if kind in (b"VP8 ", b"VP8L"):
            return b"RIFF" + struct.pack("<I", 4 + len(kept)) + b"WEBP" + kept
        at += 8 + size + (size & 1)
    raise corrupt("the WebP ends before its picture begins")
