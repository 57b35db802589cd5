"""Every format to upright RGB, compared with a reference rendering."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tests.transforms.formats import exif, photo, saved
from transforms.decode import decode_fingerprint, decode_image
from transforms.errors import ImageError
from transforms.header import read_header
from transforms.preprocessing import Preprocessing
from transforms.resize import resize


def decoded(data: bytes, **changes: object) -> np.ndarray:
    pixels = decode_image(data, read_header(data), Preprocessing(**changes))  # type: ignore[arg-type]
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    return pixels


def reference(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def over_white(rgba: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    alpha = rgba[..., 3:] / 255.0
    return np.rint(rgba[..., :3] * alpha + np.array(background) * (1 - alpha))


def translucent() -> np.ndarray:
    alpha = np.linspace(0, 255, 48 * 64).reshape(48, 64, 1).astype(np.uint8)
    return np.concatenate([photo(), alpha], axis=2)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_lossless_formats_give_back_what_was_saved(format: str, options: dict[str, object]) -> None:
    tolerance = 4 if format == "AVIF" else 0
    assert np.abs(decoded(saved(photo(), format, **options)).astype(int) - photo()).max() <= tolerance


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95, "subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2, "quality": 30},
        {"progressive": True},
        {"optimize": True, "restart_marker_rows": 1},
        {"keep_rgb": True},
        {"icc_profile": b"not used"},
    ],
)
def test_jpeg_is_bit_for_bit_pillows(options: dict[str, object]) -> None:
    data = saved(photo(123, 77), "JPEG", **options)
    assert np.array_equal(decoded(data), reference(data))


def test_grey_jpeg_has_three_equal_channels() -> None:
    data = saved(Image.fromarray(photo()).convert("L"), "JPEG")
    pixels = decoded(data)
    assert np.array_equal(pixels, reference(data))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def cmyk(transform: int) -> bytes:
    """Adobe's four-component JPEG; transform 0 is CMYK, 2 declares the same numbers to be YCCK."""
    data = bytearray(saved(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95, subsampling=0))
    data[data.index(b"Adobe") + 11] = transform
    return bytes(data)


def test_cmyk_jpeg_is_not_inverted() -> None:
    pixels = decoded(cmyk(0)).astype(int)
    assert np.abs(pixels - photo()).mean() < 2
    assert np.array_equal(pixels, reference(cmyk(0)))


@pytest.mark.parametrize("transform", [0, 2])
def test_four_components_are_what_tensorflow_makes_of_them(transform: int) -> None:
    data = cmyk(transform)
    expected = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    assert np.array_equal(decoded(data), expected)
    assert np.array_equal(decoded(data), reference(data))


def test_harmless_warnings_are_asked_about_a_second_time() -> None:
    data = saved(photo(), "JPEG")
    # Stray bytes before the end marker: libjpeg warns, the picture is whole.
    stray = data[:-2] + b"\0\0\0\0" + data[-2:]
    assert np.array_equal(decoded(stray), reference(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_orientation_is_applied_or_left(orientation: int, format: str, options: dict[str, object]) -> None:
    data = saved(photo(), format, exif=exif(orientation), **options)
    stored = decoded(saved(photo(), format, **options))
    turned = Image.fromarray(stored)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    assert np.array_equal(decoded(data), expected)
    assert np.array_equal(decoded(data, exif=False), stored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright(orientation: int) -> None:
    data = saved(photo(), "AVIF", quality=100, subsampling="4:4:4", exif=exif(orientation))
    turned = Image.fromarray(photo())
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned)).astype(int)
    assert np.abs(decoded(data) - expected).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_palettes_and_few_bits(mode: str, format: str) -> None:
    picture = Image.fromarray(photo()).convert(mode)
    data = saved(picture, format)
    assert np.array_equal(decoded(data), reference(data))


def test_interlaced_png() -> None:
    # No library here writes them: the seven passes of a 2 x 2 picture by hand (PNG 3rd edition, 8.1).
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    # Pass 1 holds (0, 0), pass 6 (0, 1), pass 7 the second row.
    passes = b"\0\x0a" + b"\0\x14" + b"\0\x1e\x28"
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(passes)) + chunk(b"IEND", b"")
    assert decoded(data)[..., 0].tolist() == [[10, 20], [30, 40]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_eight(format: str) -> None:
    levels = np.arange(48 * 64).reshape(48, 64).astype(np.uint16) * 21
    data = saved(Image.fromarray(levels), format)
    assert np.array_equal(decoded(data), np.repeat((levels >> 8)[..., None], 3, axis=2))


def test_sixteen_bit_colour() -> None:
    levels = np.arange(48 * 64 * 3).reshape(48, 64, 3).astype(np.uint16) * 7
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, levels[..., ::-1])[1].tobytes()
        assert np.array_equal(decoded(data), levels >> 8)


def test_a_tiff_where_zero_is_white() -> None:
    levels = np.arange(48 * 64).reshape(48, 64).astype(np.uint16) * 21
    data = saved(Image.fromarray(levels), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(decoded(data)[..., 0], 255 - (levels >> 8))


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
def test_alpha_is_laid_over_the_background(
    format: str, options: dict[str, object], background: tuple[int, int, int]
) -> None:
    data = saved(translucent(), format, **options)
    assert np.array_equal(decoded(data, background=background), over_white(translucent(), background))


def test_grey_with_alpha() -> None:
    grey = Image.fromarray(translucent()).convert("LA")
    expected = over_white(np.asarray(grey.convert("RGBA")))
    assert np.array_equal(decoded(saved(grey, "PNG")), expected)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry(format: str) -> None:
    picture = Image.fromarray(photo()).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    data = saved(picture, format, transparency=3)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert 0 in shown[..., 3]
    assert np.array_equal(decoded(data, background=(9, 99, 199)), over_white(shown, (9, 99, 199)))


def test_bmp_of_32_bits_has_no_alpha() -> None:
    # A plain 32-bit BMP, whose fourth byte most writers leave at 0.
    pixels = np.concatenate([photo()[::-1, :, ::-1], np.zeros((48, 64, 1), np.uint8)], axis=2).tobytes()
    head = b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, 32, 0, len(pixels), 2835, 2835, 0, 0)
    assert np.array_equal(decoded(head + info + pixels), photo())


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "AVIF", "PNG"])
def test_of_animations_the_first_frame(format: str) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (40, 120, 220)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(decoded(data).astype(int) - 40).max() <= 2


def test_a_gif_frame_smaller_than_its_canvas() -> None:
    data = bytearray(saved(photo(20, 30), "GIF"))
    data[6:10] = (64).to_bytes(2, "little") + (48).to_bytes(2, "little")
    place = data.index(b"\x2c\0\0\0\0\x1e\0\x14\0")
    data[place + 1 : place + 5] = (5).to_bytes(2, "little") + (7).to_bytes(2, "little")
    pixels = decoded(bytes(data), background=(1, 2, 3))
    small = decoded(saved(photo(20, 30), "GIF"))
    assert np.array_equal(pixels[7:27, 5:35], small)
    pixels[7:27, 5:35] = (1, 2, 3)
    assert np.all(pixels == (1, 2, 3))


def test_a_tiff_of_floats_is_refused() -> None:
    data = saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(ImageError) as caught:
        decoded(data)
    assert (caught.value.type, caught.value.message) == (
        "unsupported_format",
        "the TIFF holds 32-bit samples, for which no black and white are known",
    )


@pytest.mark.parametrize("stray", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_where_the_filter_shrinks_it_anyway(stray: bool, orientation: int) -> None:
    rng = np.random.default_rng(5)
    pixels = np.clip(photo(960, 1280) + rng.normal(0, 12, (960, 1280, 3)), 0, 255).astype(np.uint8)
    data = saved(pixels, "JPEG", quality=92, exif=exif(orientation))
    if stray:
        data = data[:-2] + b"\0\0\0\0" + data[-2:]
    spec = Preprocessing(height=120, width=120, geometry="resize_crop", resample="bicubic", antialias=True)
    small = decode_image(data, read_header(data), spec)
    assert sorted(small.shape) == [3, 240, 320]
    whole = decoded(data)
    assert sorted(whole.shape) == [3, 960, 1280]
    difference = np.abs(resize(small, spec).astype(int) - resize(whole, spec))
    assert difference.mean() < 0.5
    assert difference.max() <= 4


def test_a_large_jpeg_cut_short_is_truncated_at_any_reduction() -> None:
    data = saved(photo(960, 1280), "JPEG")
    spec = Preprocessing(height=60, width=80, antialias=True)
    assert decode_image(data, read_header(data), spec).shape == (120, 160, 3)
    for end in (len(data) - 2, len(data) * 3 // 4, len(data) // 2):
        with pytest.raises(ImageError) as caught:
            decode_image(data[:end], read_header(data), spec)
        assert caught.value.type == "truncated"


def test_fingerprint_names_the_libraries() -> None:
    found = decode_fingerprint()
    assert {"simplejpeg", "opencv-python-headless", "Pillow", "tensorflow", "tensorflow-io"} <= set(found)
    assert found["tensorflow"] == tf.__version__
    assert "absent" not in found.values()


def test_the_launcher_can_ask_for_the_fingerprint_without_loading_libraries() -> None:
    heavy = "{'tensorflow', 'tensorflow_io', 'cv2', 'PIL', 'simplejpeg'}"
    code = (
        "import sys; import transforms.header; from transforms.decode import decode_fingerprint; decode_fingerprint(); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
