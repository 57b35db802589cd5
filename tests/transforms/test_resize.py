"""Resampling against TensorFlow and Pillow, the libraries whose pictures models were trained on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from transforms.preprocessing import Preprocessing
from transforms.resize import resize

SIZES = [(375, 500), (500, 333), (97, 151), (224, 224), (40, 31), (1, 1), (1, 64), (64, 1), (600, 20)]


def photo(height: int, width: int) -> np.ndarray:
    """Smooth shades, hard edges and noise in one picture."""
    rng = np.random.default_rng(height * 1000 + width)
    rows, columns = np.mgrid[0:height, 0:width]
    shades = 127 + 80 * np.sin(rows / 17 + np.arange(3)[:, None, None]) * np.cos(columns / 23)
    edges = 60 * ((rows // 13 + columns // 19) % 2)
    noisy = shades + edges + rng.normal(0, 8, (3, height, width))
    return np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def settings(**changes: object) -> Preprocessing:
    return Preprocessing(**{"height": 224, "width": 224, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [(224, 224), (96, 160)])
def test_stretch_bilinear_is_tensorflows_within_one_level(size: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = photo(*size)
    expected = tf.image.resize(pixels, target, "bilinear", antialias=False).numpy()
    found = resize(pixels, settings(height=target[0], width=target[1], geometry="stretch"))
    assert found.shape == (*target, 3)
    assert np.abs(found - expected).max() <= 1.0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fraction", [0.875, 0.96, 1.0])
def test_resize_crop_bicubic_is_pillows_resize_and_centre_crop(size: tuple[int, int], fraction: float) -> None:
    pixels = photo(*size)
    height, width = size
    short = math.floor(224 / fraction)
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    whole = np.asarray(Image.fromarray(pixels).resize(scaled, Image.Resampling.BICUBIC))
    top, left = round((whole.shape[0] - 224) / 2.0), round((whole.shape[1] - 224) / 2.0)
    expected = whole[top : top + 224, left : left + 224].astype(int)
    found = resize(pixels, settings(geometry="resize_crop", fraction=fraction, resample="bicubic", antialias=True))
    assert found.dtype == np.uint8
    # The same coefficients, but for the float32 in which Pillow holds the corners of a box.
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_crop_resize_bicubic_is_efficientnets(size: tuple[int, int]) -> None:
    pixels = photo(*size)
    height, width = size
    crop = max(1, int(224 / (224 + 32) * min(height, width)))
    top, left = ((height - crop) + 1) // 2, ((width - crop) + 1) // 2
    cut = tf.image.crop_to_bounding_box(pixels, top, left, crop, crop)
    expected = tf.image.resize(cut, (224, 224), "bicubic").numpy()
    found = resize(pixels, settings(geometry="crop_resize", fraction=0.875, resample="bicubic"))
    assert np.array_equal(found, expected)


# 64 x 1 is left out: TensorFlow's float32 ratio makes 119 rows of 120.
@pytest.mark.parametrize("size", [size for size in SIZES if size != (64, 1)])
def test_pad_is_tensorflows_resize_with_pad(size: tuple[int, int]) -> None:
    pixels = photo(*size)
    expected = tf.image.resize_with_pad(pixels, 120, 90, "bilinear").numpy()
    found = resize(pixels, settings(height=120, width=90, geometry="pad"))
    assert np.abs(found - expected).max() <= 1.0


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(375, 500), (40, 31), (1, 64)])
def test_resize_crop_without_antialias_is_the_window_of_the_whole(resample: str, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    short, (height, width) = 256, size
    scaled = (int(short * height / width), short) if width <= height else (short, int(short * width / height))
    whole = tf.image.resize(pixels, scaled, resample).numpy()
    top, left = round((scaled[0] - 224) / 2.0), round((scaled[1] - 224) / 2.0)
    found = resize(pixels, settings(geometry="resize_crop", fraction=0.875, resample=resample))
    assert np.abs(found - whole[top : top + 224, left : left + 224]).max() < 0.6


def test_antialias_is_pillows_in_every_geometry() -> None:
    pixels = photo(375, 500)
    cut = pixels[24 : 24 + 328, 86 : 86 + 328]
    expected = np.asarray(Image.fromarray(cut).resize((224, 224), Image.Resampling.BILINEAR))
    found = resize(pixels, settings(geometry="crop_resize", fraction=0.875, antialias=True))
    assert np.array_equal(found, expected)
    expected = np.asarray(Image.fromarray(pixels).resize((160, 96), Image.Resampling.BICUBIC))
    found = resize(pixels, settings(height=96, width=160, resample="bicubic", antialias=True))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("geometry", "resample", "antialias"),
    itertools.product(["stretch", "resize_crop", "crop_resize", "pad"], ["bilinear", "bicubic"], [True, False]),
)
@pytest.mark.parametrize("size", SIZES)
def test_one_colour_stays_that_colour(geometry: str, resample: str, antialias: bool, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), (200, 100, 50), np.uint8)
    spec = settings(height=64, width=48, geometry=geometry, fraction=0.9, resample=resample, antialias=antialias)
    found = resize(pixels, spec)
    assert found.shape == (64, 48, 3)
    filled = found[found.any(axis=2)] if geometry == "pad" else found.reshape(-1, 3)
    assert len(filled)
    assert np.abs(filled - np.array([200, 100, 50])).max() < 0.01


def test_a_sliver_does_not_grow_into_a_giant() -> None:
    pixels = photo(1, 60_000)
    for antialias in (True, False):
        spec = settings(geometry="resize_crop", fraction=0.875, resample="bicubic", antialias=antialias)
        assert resize(pixels, spec).shape == (224, 224, 3)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("geometry", ["stretch", "resize_crop", "crop_resize", "pad"])
def test_the_settings_tell_whether_tensorflow_resamples(
    geometry: str, resample: str, antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that never needs it never imports it."""
    spec = settings(geometry=geometry, resample=resample, antialias=antialias)
    asked = []

    def missing(crop: np.ndarray, *given: object) -> np.ndarray:
        asked.append(1)
        return np.zeros((spec.height, spec.width, 3), np.float32)

    monkeypatch.setattr("transforms.resize._tensorflow_bicubic", missing)
    monkeypatch.setattr("transforms.resize._tensorflow_window", missing)
    for size in [(300, 500), (500, 300), (20, 30)]:
        resize(photo(*size), spec)
    assert bool(asked) == spec.needs_tensorflow
