"""`image.decoder: tensorflow-io`: what TensorFlow and tensorflow-io make of each format."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.transforms.formats import exif, photo, saved
from tests.transforms.test_decode import decoded, over_white, translucent
from tests.transforms.test_header import FILES
from transforms.codecs import pillow
from transforms.errors import ImageError

TRUSTED = {"decoder": "tensorflow-io"}


def refuse(*arguments: object) -> np.ndarray:
    raise AssertionError("Pillow was asked")


@pytest.fixture
def _without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("decode_webp", "decode_tiff", "decode_avif"):
        monkeypatch.setattr(pillow, name, refuse)


@pytest.mark.parametrize("options", [{}, {"subsampling": 2, "quality": 30}, {"progressive": True}])
def test_jpeg_is_what_decode_image_gives(options: dict[str, object]) -> None:
    data = saved(photo(123, 77), "JPEG", **options)
    assert np.array_equal(decoded(data, **TRUSTED), tf.io.decode_image(data, channels=3).numpy())
    assert not np.array_equal(decoded(data, **TRUSTED), decoded(data)), "the other DCT"


@pytest.mark.usefixtures("_without_pillow")
@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 10),
    ],
)
def test_other_formats_give_back_what_was_saved(format: str, options: dict[str, object], tolerance: int) -> None:
    difference = decoded(saved(photo(), format, **options), **TRUSTED).astype(int) - photo()
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_tiffs_of_other_kinds(mode: str) -> None:
    data = saved(Image.fromarray(photo()).convert(mode), "TIFF")
    assert np.abs(decoded(data, **TRUSTED).astype(int) - decoded(data)).max() <= 1


def test_a_tiff_of_16_bits() -> None:
    levels = np.arange(48 * 64).reshape(48, 64).astype(np.uint16) * 21
    found = decoded(saved(Image.fromarray(levels), "TIFF"), **TRUSTED)[..., 0]
    assert np.abs(found.astype(int) - (levels >> 8)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_or_left(format: str, orientation: int) -> None:
    data = saved(photo(), format, exif=exif(orientation), **({"lossless": True} if format == "WEBP" else {}))
    for spec in ({}, {"exif": False}):
        found, expected = decoded(data, **TRUSTED, **spec), decoded(data, **spec)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 4  # AVIF's colours are interpolated otherwise


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("AVIF", {"quality": 100})],
)
@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 90)])
def test_alpha_is_laid_over_the_background(
    format: str, options: dict[str, object], background: tuple[int, int, int]
) -> None:
    found = decoded(saved(translucent(), format, **options), **TRUSTED, background=background)
    assert np.abs(found - over_white(translucent(), background)).mean() < 2


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "AVIF", "PNG"])
def test_of_animations_the_first_frame(format: str) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (40, 120, 220)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(decoded(data, **TRUSTED).astype(int) - 40).max() <= 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_format_is_decoded_and_damage_is_a_reason(name: str) -> None:
    assert decoded(FILES[name], **TRUSTED).shape == (48, 64, 3)
    with pytest.raises(ImageError) as caught:
        decoded(FILES[name][:150], **TRUSTED)
    assert caught.value.stage == "decode"
