"""WebP, TIFF and AVIF through Pillow, whose bundled libraries are current (tensorflow-io's libwebp has CVE-2023-4863).

The plugin classes are called by name: `Image.open` would try other formats, and its check for decompression bombs is
replaced by ours of the header.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np

from transforms.codecs import exif
from transforms.codecs.common import Header, compose, corrupt, three_channels, truncated, unsupported, upright

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
# The turn that undoes an orientation: only the two quarter turns differ from their own inverse.
_INVERSE = {6: 8, 8: 6}


def read_webp_header(data: bytes, whole: bool = True) -> Header:
    """Walk the RIFF chunks (WebP container, RFC 9649): canvas size, orientation, and whether the file is whole."""
    if len(data) < 30:
        raise truncated(f"the WebP ends inside its header, after {len(data):,} bytes")
    (riff,) = struct.unpack_from("<I", data, 4)
    if whole and riff + 8 > len(data):
        raise truncated(f"the WebP ends after {len(data):,} of {riff + 8:,} bytes")
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return Header("webp", width, height, _webp_orientation(data))
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return Header("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        if width & 0x3FFF and height & 0x3FFF:
            return Header("webp", width & 0x3FFF, height & 0x3FFF)
    raise corrupt("the WebP's header names no picture")


def _webp_orientation(data: bytes) -> int:
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            return exif.orientation(data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    return 1


def read_tiff_header(data: bytes) -> Header:
    """Read the first directory (TIFF 6.0) without decoding: size and orientation of the first page."""
    _check_directory(data)
    with io.BytesIO(data) as file:
        picture = _open_tiff(file)
        width, height = picture.tag_v2.get(256), picture.tag_v2.get(257)
        if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
            raise corrupt(f"the TIFF's header gives a size of {width} x {height}")
        return Header("tiff", width, height, _tag_orientation(picture.tag_v2.get(_ORIENTATION)))


def _check_directory(data: bytes) -> None:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start) if start < len(data) else (1,)
    if start + (8 if big else 2) + entries * (20 if big else 12) > len(data):
        raise truncated(f"the TIFF ends before its directory, after {len(data):,} bytes")


def _tag_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _open_tiff(file: io.BytesIO) -> TiffImageFile:
    from PIL.TiffImagePlugin import TiffImageFile

    return TiffImageFile(file)


def read_avif_header(data: bytes) -> Header:
    """Parse the boxes (libavif, no pixel decode): size, and the turn of `irot` and `imir` as an orientation."""
    _check_boxes(data)
    with _open_avif(data) as picture:
        turn = _tag_orientation(picture.getexif().get(_ORIENTATION))
        return Header("avif", picture.width, picture.height, turn, 4 if picture.mode == "RGBA" else 3)


def _check_boxes(data: bytes) -> None:
    """Raise `truncated` unless the outermost boxes (ISO/IEC 14496-12, 4.2) end with the file."""
    at = 0
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size == 0:
            return
        if size < 8:
            raise corrupt("the AVIF holds a box of impossible length")
        at += size
    if at > len(data):
        raise truncated(f"the AVIF ends after {len(data):,} of {at:,} bytes")


def _open_avif(data: bytes) -> Image:
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile(io.BytesIO(data))


def decode_webp(data: bytes, background: tuple[int, int, int]) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]` RGB as stored."""
    from PIL.WebPImagePlugin import WebPImageFile

    with WebPImageFile(io.BytesIO(data)) as picture:
        return _rgb(picture, background)


def decode_avif(data: bytes, background: tuple[int, int, int]) -> np.ndarray:
    """Decode the first frame to uint8 `[H, W, 3]` RGB as stored (10 and 12 bits are reduced to 8)."""
    with _open_avif(data) as picture:
        return _rgb(picture, background)


def decode_partial_gif(data: bytes, background: tuple[int, int, int]) -> np.ndarray:
    """Decode what there is of the first frame to uint8 `[H, W, 3]` RGB; the rest has the palette's first colour."""
    from PIL.GifImagePlugin import GifImageFile

    with GifImageFile(io.BytesIO(data)) as picture:
        _load_partial(picture)
        return _rgb(picture, background)


def decode_partial_bmp(data: bytes) -> np.ndarray:
    """Decode what there is to uint8 `[H, W, 3]` RGB; the rest has the palette's first colour."""
    from PIL.BmpImagePlugin import BmpImageFile

    with BmpImageFile(io.BytesIO(data)) as picture:
        _load_partial(picture)
        return np.array(picture.convert("RGB"))


def _load_partial(picture: ImageFile) -> None:
    """Load as much as there is: decoders fill the picture from the top and stop where the file ends."""
    try:
        picture.load()
    except OSError:
        if picture._im is None:
            raise
        picture.tile = []  # so that it counts as loaded


def decode_tiff(data: bytes, header: Header, background: tuple[int, int, int], partial: bool = False) -> np.ndarray:
    """Decode the first page to uint8 `[H, W, 3]` RGB as stored; of 16 bits the upper 8 are kept.

    With `partial`, what is not there is black.

    Raises:
        ImageError: `unsupported_format` for 32-bit samples, whose range nothing in the file names.
    """
    with io.BytesIO(data) as file:
        picture = _open_tiff(file)
        if partial:
            _load_partial(picture)
            if _ORIENTATION in picture.tag_v2:  # what did not load was not turned either
                picture.load_end()
        else:
            picture.load()
        if picture.mode in ("F", "I"):
            raise unsupported("the TIFF holds 32-bit samples, for which no black and white are known")
        pixels = _sixteen_bits(picture) if picture.mode.startswith("I;16") else _rgb(picture, background)
    # Pillow turns a TIFF while it loads; callers expect pixels as stored.
    if header.orientation != 1:
        return upright(pixels, _INVERSE.get(header.orientation, header.orientation))
    return pixels


def _sixteen_bits(picture: TiffImageFile) -> np.ndarray:
    grey = np.asarray(picture).astype(np.uint16) >> 8
    if picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return three_channels(grey.astype(np.uint8))


def _rgb(picture: Image, background: tuple[int, int, int]) -> np.ndarray:
    if picture.has_transparency_data:
        return compose(np.asarray(picture.convert("RGBA")), background)
    return np.array(picture.convert("RGB"))
