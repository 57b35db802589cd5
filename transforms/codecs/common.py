"""What the codecs share: the header, the three ways to fail, orientation and composition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.errors import ImageError


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before any pixel is decoded.

    Attributes:
        format: `jpeg`, `png`, `gif`, `bmp`, `webp`, `tiff`, `avif`, `dicom`, `openexr` or `hdr`, by content.
        width, height: pixels as stored, before any orientation is applied.
        orientation: of EXIF, 1 to 8; 1 where there is none or it cannot be read.
        components: channels as stored, where the decoder needs to know (JPEG: 1, 3 or 4).
        truncated: whether the file ends before its picture does; read on request only.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    components: int = 3
    truncated: bool = False


def truncated(what: str) -> ImageError:
    """The error of a file that ends too early; `what` is a sentence without a dot."""
    return ImageError("decode", "truncated", what)


def corrupt(what: str) -> ImageError:
    """The error of a file that contradicts its own format."""
    return ImageError("decode", "corrupt", what)


def unsupported(what: str) -> ImageError:
    """The error of bytes that are no picture, or of a kind that is not decoded."""
    return ImageError("decode", "unsupported_format", what)


def operand(data: bytes) -> np.ndarray:
    """A file's bytes as an operation of TensorFlow takes them, to be given together with attributes of exact types.

    Of plain `bytes`, or with an int where an attribute is a float, TensorFlow 2.16 makes a tensor in Python: that
    takes longer, and leaks 340 bytes each time.
    """
    return np.array(data, dtype=object)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn `[H, W, C]` pixels as EXIF's orientation tag (0x0112) demands; 5 to 8 swap height and width."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def compose(rgba: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Lay uint8 `[H, W, 4]` over one colour, as `[H, W, 3]`: `(rgb * a + background * (255 - a)) / 255`, rounded."""
    alpha = rgba[..., 3:].astype(np.uint32)
    mixed = rgba[..., :3] * alpha + np.asarray(background, np.uint32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def three_channels(grey: np.ndarray) -> np.ndarray:
    """Repeat `[H, W]` or `[H, W, 1]` to `[H, W, 3]`, contiguous."""
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)
