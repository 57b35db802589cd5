"""A decoded picture to the model's input: geometry, resampling, then channels, dtype and normalization."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from transforms.geometry import Plan, plan
from transforms.preprocessing import Preprocessing

# Images are already spread over our own threads.
cv2.setNumThreads(0)

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_PILLOW_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
_TENSORFLOW_KERNEL = {"bilinear": "triangle", "bicubic": "keyscubic"}


def resize(pixels: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Crop, resample and pad as `spec.geometry`, `fraction`, `resample` and `antialias` say.

    Args:
        pixels: uint8 `[H, W, 3]`, any size from 1 x 1.

    Returns:
        `[spec.height, spec.width, 3]` in the same channel order, values 0 to 255: uint8, or float32 where
        TensorFlow's filter gives fractions (without antialiasing: bicubic, and `resize_crop`). Bicubic float32 may
        overshoot 0 and 255 a little, as it does in `tf.image.resize`.
    """
    layout = plan(pixels.shape[0], pixels.shape[1], spec)
    top, left, height, width = layout.crop
    resampled = _resample(pixels[top : top + height, left : left + width], layout, spec)
    if resampled.shape[:2] == (spec.height, spec.width):
        return resampled
    padded = np.zeros((spec.height, spec.width, 3), resampled.dtype)
    down, right = layout.place
    padded[down : down + resampled.shape[0], right : right + resampled.shape[1]] = resampled
    return padded


def _resample(crop: np.ndarray, layout: Plan, spec: Preprocessing) -> np.ndarray:
    """The wanted window of the crop scaled to `layout.scaled`."""
    if spec.antialias:
        return _pillow(crop, layout, spec.resample)
    if layout.window != (0, 0, *layout.scaled):
        return _tensorflow_window(crop, layout, spec.resample)
    if spec.resample == "bilinear":
        height, width = layout.scaled
        return cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)
    return _tensorflow_bicubic(crop, layout.scaled)


def _pillow(crop: np.ndarray, layout: Plan, resample: str) -> np.ndarray:
    """Antialiased as Pillow's `Image.resize` and then a crop, but only the window is computed: same coefficients."""
    scale_y, scale_x = crop.shape[0] / layout.scaled[0], crop.shape[1] / layout.scaled[1]
    top, left, height, width = layout.window
    rows, y = _reach(top, height, scale_y, crop.shape[0], _PILLOW_SUPPORT[resample])
    columns, x = _reach(left, width, scale_x, crop.shape[1], _PILLOW_SUPPORT[resample])
    picture = Image.fromarray(np.ascontiguousarray(crop[rows, columns]))
    box = (x[0], y[0], x[1], y[1])
    return np.asarray(picture.resize((width, height), _PILLOW[resample], box=box))


def _reach(start: int, count: int, scale: float, size: int, support: float) -> tuple[slice, tuple[float, float]]:
    """Source pixels that `count` output pixels from `start` touch, and the box of those outputs within them."""
    margin = math.ceil(support * max(scale, 1.0)) + 1
    first, last = start * scale, min((start + count) * scale, float(size))
    low, high = max(0, math.floor(first) - margin), min(size, math.ceil(last) + margin)
    return slice(low, high), (first - low, last - low)


def _tensorflow_bicubic(crop: np.ndarray, scaled: tuple[int, int]) -> np.ndarray:
    """Keys' cubic with a = -0.5, half-pixel centres; OpenCV's has a = -0.75, Pillow's always widens."""
    import tensorflow as tf

    size = _constant(scaled)
    return tf.raw_ops.ResizeBicubic(images=crop[np.newaxis], size=size, half_pixel_centers=True).numpy()[0]


@lru_cache(maxsize=64)
def _constant(size: tuple[int, int]) -> Any:
    """The size as a tensor: to make one anew costs as much as a fifth of the resampling."""
    import tensorflow as tf

    return tf.constant(size, tf.int32)


def _tensorflow_window(crop: np.ndarray, layout: Plan, resample: str) -> np.ndarray:
    import tensorflow as tf

    top, left, height, width = layout.window
    # Arrays: of plain numbers TensorFlow 2.16 makes tensors in Python, slowly, and leaks 340 bytes with each.
    scale = np.array([layout.scaled[0] / crop.shape[0], layout.scaled[1] / crop.shape[1]], np.float32)
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=crop[np.newaxis],
        size=_constant((height, width)),
        scale=scale,
        translation=np.array([-top, -left], np.float32),
        kernel_type=_TENSORFLOW_KERNEL[resample],
        antialias=False,
    )
    return resampled.numpy()[0]


def normalize(pixels: np.ndarray, spec: Preprocessing, out: np.ndarray) -> None:
    """Write a resized picture into its slot of a batch: channel order, transposition, dtype, scale, mean and std.

    Args:
        pixels: uint8 or float32 `[spec.height, spec.width, 3]` RGB, 0 to 255, as `resize` returns it.
        out: `spec.model_shape`, `spec.dtype`, C-contiguous; float32 gets `(pixel / scale - mean) / std`,
            uint8 the pixels themselves, rounded and clipped to 0..255.
    """
    if spec.transpose:
        pixels = cv2.transpose(pixels)
    if spec.channels == "bgr":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if spec.dtype == "uint8":
        out[...] = pixels if pixels.dtype == np.uint8 else np.clip(np.rint(pixels), 0, 255)
    elif pixels.dtype == np.uint8:
        # A table of 256 entries a channel is the exact result and reads every pixel once.
        written = cv2.LUT(pixels, _table(spec.scale, spec.mean, spec.std, spec.channels), dst=out)
        if written is not out:
            out[...] = written
    else:
        factor, offset = _affine(spec.scale, spec.mean, spec.std, spec.channels, pixels.shape[1])
        rows = out.reshape(out.shape[0], -1)
        np.multiply(pixels.reshape(rows.shape), factor, out=rows)
        rows += offset


def _ordered(values: tuple[float, float, float], channels: str) -> np.ndarray:
    return np.asarray(values if channels == "rgb" else values[::-1], np.float64)


@lru_cache(maxsize=16)
def _table(
    scale: float, mean: tuple[float, float, float], std: tuple[float, float, float], channels: str
) -> np.ndarray:
    levels = np.arange(256, dtype=np.float64)[:, np.newaxis] / scale
    table = (levels - _ordered(mean, channels)) / _ordered(std, channels)
    return table.astype(np.float32)[np.newaxis]


@lru_cache(maxsize=16)
def _affine(
    scale: float, mean: tuple[float, float, float], std: tuple[float, float, float], channels: str, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset of one row of `width` pixels: pixel * factor + offset."""
    spread = _ordered(std, channels)
    factor, offset = 1 / (scale * spread), -_ordered(mean, channels) / spread
    return np.tile(factor, width).astype(np.float32), np.tile(offset, width).astype(np.float32)


def prepare(pixels: np.ndarray, spec: Preprocessing, out: np.ndarray) -> None:
    """`resize`, then `normalize` into `out`."""
    normalize(resize(pixels, spec), spec, out)
