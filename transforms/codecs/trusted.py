"""`image.decoder: tensorflow-io`: TensorFlow's and tensorflow-io's decoders wherever they know the format.

For trusted pictures alone: tensorflow-io 0.37 bundles libwebp 1.2.1 (CVE-2023-4863) and gives partial pictures of
truncated TIFFs without an error.
"""

from __future__ import annotations

import numpy as np

from transforms.codecs import bmp, gif, pillow, png
from transforms.codecs.common import Header, compose, operand

FORMATS = ("jpeg", "png", "gif", "bmp", "webp", "tiff", "avif")  # the others are tensorflow-io's in any case
_ANIMATION = 0x02
_FLIPPED_ACROSS, _FLIPPED_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)  # orientations of which libtiff undoes a flip


def decode(data: bytes, header: Header, reduction: int, background: tuple[int, int, int]) -> np.ndarray:
    """Decode a picture of one of `FORMATS` to uint8 `[H, W, 3]` RGB as stored; a JPEG shrunk by `reduction`.

    JPEGs as `tf.io.decode_image` gives them: the faster DCT, up to 13 levels from the accurate one.
    """
    import tensorflow as tf

    match header.format:
        case "jpeg":
            return tf.io.decode_jpeg(operand(data), channels=3, ratio=reduction, acceptable_fraction=1.0).numpy()
        case "png":
            return png.decode(data, header, background)
        case "gif":
            return gif.decode(data, header, background)
        case "bmp":
            return bmp.decode(data, header)
        case "webp":
            return _webp(data, background)
        case "tiff":
            return _tiff(data, header, background)
    return _avif(data, header, background)


def _webp(data: bytes, background: tuple[int, int, int]) -> np.ndarray:
    if data[12:16] == b"VP8X" and data[20] & _ANIMATION:  # which tensorflow-io does not read
        return pillow.decode_webp(data, background)
    import tensorflow_io as tfio

    return compose(tfio.image.decode_webp(data).numpy(), background)


def _tiff(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    import tensorflow_io as tfio

    rgba = tfio.experimental.image.decode_tiff(data).numpy()
    if header.orientation in _FLIPPED_DOWN:
        rgba = rgba[::-1]
    if header.orientation in _FLIPPED_ACROSS:
        rgba = rgba[:, ::-1]
    # libtiff gives colours multiplied by their alpha already
    behind = (255 - rgba[..., 3:].astype(np.uint32)) * np.asarray(background, np.uint32)
    return np.minimum(rgba[..., :3] + (behind + 127) // 255, 255).astype(np.uint8)


def _avif(data: bytes, header: Header, background: tuple[int, int, int]) -> np.ndarray:
    if header.components == 4:  # tensorflow-io drops alpha
        return pillow.decode_avif(data, background)
    import tensorflow_io as tfio

    return tfio.experimental.image.decode_avif(data).numpy()
