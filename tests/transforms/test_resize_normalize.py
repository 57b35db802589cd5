"""Channels, dtype, normalization and transposition, written into a slot of a batch."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.preprocessing import Preprocessing
from transforms.resize import normalize, prepare, resize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVELS = np.arange(5 * 7 * 3).reshape(5, 7, 3).astype(np.uint8) * 2


def settings(**changes: object) -> Preprocessing:
    return Preprocessing(**{"height": 5, "width": 7, "mean": MEAN, "std": STD, **changes})  # type: ignore[arg-type]


def written(pixels: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Normalize into the middle slot of a batch; the neighbours must stay as they were."""
    batch = np.full((3, *spec.model_shape), 77, spec.dtype)
    normalize(pixels, spec, batch[1])
    assert np.all(batch[[0, 2]] == 77)
    return batch[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_float32_is_scaled_centred_and_spread(dtype: type) -> None:
    expected = (LEVELS / 255.0 - np.array(MEAN)) / np.array(STD)
    found = written(LEVELS.astype(dtype), settings())
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bgr_swaps_pixels_with_their_mean_and_std(dtype: type) -> None:
    expected = ((LEVELS / 255.0 - np.array(MEAN)) / np.array(STD))[..., ::-1]
    found = written(LEVELS.astype(dtype), settings(channels="bgr"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_transpose_swaps_height_and_width(dtype: type) -> None:
    spec = settings(transpose=True)
    assert spec.model_shape == (7, 5, 3)
    expected = ((LEVELS / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(1, 0, 2)
    np.testing.assert_allclose(written(LEVELS.astype(dtype), spec), expected, rtol=0, atol=2e-6)


def test_minus_one_to_one() -> None:
    spec = settings(scale=127.5, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0))
    pixels = np.zeros((5, 7, 3), np.uint8)
    pixels[0] = 255
    found = written(pixels, spec)
    assert np.all(found[0] == 1.0)
    assert np.all(found[1:] == -1.0)


def test_uint8_keeps_levels_and_clips_what_the_filter_overshot() -> None:
    spec = settings(dtype="uint8", channels="bgr")
    assert np.array_equal(written(LEVELS, spec), LEVELS[..., ::-1])
    overshot = LEVELS.astype(np.float32)
    overshot[0, 0] = (-3.2, 258.9, 10.6)
    assert written(overshot, spec)[0, 0].tolist() == [11, 255, 0]


def test_prepare_is_resize_and_normalize() -> None:
    spec = settings(resample="bicubic", transpose=True)
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = np.empty(spec.model_shape, np.float32)
    normalize(resize(pixels, spec), spec, expected)
    out = np.empty(spec.model_shape, np.float32)
    prepare(pixels, spec, out)
    assert np.array_equal(out, expected)
