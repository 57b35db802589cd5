"""Rarer kinds of the common formats, compared with Pillow's rendering or with pixels known beforehand."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.transforms.formats import photo, saved
from tests.transforms.test_decode import decoded, over_white, reference


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_png_of_few_bits(bits: int, mode: str) -> None:
    colours = 2**bits
    indices = (np.arange(48 * 61).reshape(48, 61) % colours).astype(np.uint8)
    palette = np.random.default_rng(bits).integers(0, 256, (colours, 3)).astype(np.uint8)
    rows = np.packbits(np.unpackbits(indices[..., None], axis=2)[..., 8 - bits :].reshape(48, -1), axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 61, 48, bits, 3 if mode == "P" else 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    data += chunk(b"PLTE", palette.tobytes()) if mode == "P" else b""
    data += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))) + chunk(b"IEND", b"")
    grey = (indices.astype(int) * 255 // (colours - 1)).astype(np.uint8)
    expected = palette[indices] if mode == "P" else np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(decoded(data), expected)


def test_png_of_16_bits_with_alpha() -> None:
    random = np.random.default_rng(1)
    levels = random.integers(0, 65536, (48, 64, 4)).astype(np.uint16)
    data = cv2.imencode(".png", levels[..., [2, 1, 0, 3]])[1].tobytes()
    assert np.array_equal(decoded(data), over_white(levels >> 8))


def test_grey_png_of_16_bits_is_not_white() -> None:
    levels = photo()[..., 0].astype(np.uint16) * 257
    pixels = decoded(saved(Image.fromarray(levels), "PNG"))
    assert np.array_equal(pixels[..., 0], photo()[..., 0])
    assert (reference(saved(Image.fromarray(levels), "PNG")) == 255).mean() > 0.9, "Pillow's own rendering is white"


def test_a_transparent_colour_of_a_png() -> None:
    picture = Image.fromarray(np.repeat(photo()[..., :1], 3, axis=2) // 64 * 64)
    data = saved(picture, "PNG", transparency=(64, 64, 64))
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert 0 in shown[..., 3]
    assert np.array_equal(decoded(data), over_white(shown))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_icc_profiles_are_ignored(mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB" if mode == "CMYK" else "sRGB")).tobytes()
    picture = Image.fromarray(photo()).convert(mode)
    with_profile = saved(picture, "JPEG", icc_profile=profile)
    assert profile in with_profile
    assert np.array_equal(decoded(with_profile), decoded(saved(picture, "JPEG")))
    assert np.array_equal(decoded(with_profile), reference(with_profile))
    png = saved(Image.fromarray(photo()), "PNG", icc_profile=profile)
    assert np.array_equal(decoded(png), photo())


@pytest.mark.parametrize("interlace", [0, 1])
def test_gif_interlaced_or_not(interlace: int) -> None:
    data = saved(Image.fromarray(photo()).convert("P"), "GIF", interlace=interlace)
    assert np.array_equal(decoded(data), reference(data))


def bmp(bits: int, compression: int, body: bytes, extra: bytes = b"", height: int = 4) -> bytes:
    """A BMP of 6 columns; `extra` is masks or a palette."""
    info = struct.pack("<IiiHHIIiiII", 40, 6, height, 1, bits, compression, len(body), 0, 0, len(extra) // 4, 0)
    start = 14 + len(info) + len(extra)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + extra + body


PALETTE = bytes(value for index in range(16) for value in (index * 16, 255 - index * 9, index * 3, 0))


@pytest.mark.parametrize("bits", [4, 8])
def test_bmp_of_run_lengths(bits: int) -> None:
    run = bytes([6, 0x35 if bits == 4 else 5]) + b"\0\0"  # six pixels, end of line
    literal = bytes([0, 6]) + (b"\x12\x34\x56\0" if bits == 4 else b"\1\2\3\4\5\6") + b"\0\0"
    data = bmp(bits, 2 if bits == 4 else 1, run * 2 + literal + run + b"\0\1", PALETTE)
    pixels = decoded(data)
    assert np.array_equal(pixels, reference(data))
    assert pixels[1, 2].tolist() == [3 * 3, 255 - 3 * 9, 3 * 16]


@pytest.mark.parametrize("height", [4, -4])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x07E0, 0x001F)),
        (16, (0x7C00, 0x03E0, 0x001F)),
        (32, (0x00FF0000, 0x0000FF00, 0x000000FF)),
        (32, (0xFF000000, 0x00FF0000, 0x0000FF00)),
    ],
)
def test_bmp_of_bit_fields(bits: int, masks: tuple[int, int, int], height: int) -> None:
    values = np.random.default_rng(2).integers(0, 2**bits, (4, 6)).astype(f"<u{bits // 8}")
    data = bmp(bits, 3, values.tobytes(), struct.pack("<3I", *masks), height)
    pixels = decoded(data)
    assert np.array_equal(pixels, reference(data))
    rows = values if height < 0 else values[::-1]
    for channel, mask in enumerate(masks):
        shift, top = (mask & -mask).bit_length() - 1, mask // (mask & -mask)
        expected = ((rows & mask) >> shift) * 255.0 / top
        assert np.abs(pixels[..., channel] - expected).max() <= 1


def test_bmp_from_the_top_and_of_16_bits_without_masks() -> None:
    values = np.random.default_rng(3).integers(0, 2**15, (4, 6)).astype("<u2")
    for height in (4, -4):
        data = bmp(16, 0, values.tobytes(), b"", height)
        assert np.array_equal(decoded(data), reference(data))
    plain = photo(4, 6)[..., ::-1]
    padded = np.concatenate([plain.reshape(4, 18), np.zeros((4, 2), np.uint8)], axis=1)
    assert np.array_equal(decoded(bmp(24, 0, padded.tobytes(), height=-4)), photo(4, 6))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("1", {"compression": "group4"}),
        ("1", {"compression": "group3"}),
        ("1", {"compression": "packbits"}),
        ("L", {"compression": "jpeg"}),
        ("RGB", {"compression": "jpeg"}),
        ("RGB", {"compression": "packbits"}),
        ("RGB", {"compression": "zstd"}),
        ("RGB", {"compression": "lzma"}),
        ("RGB", {"tiffinfo": {317: 2}, "compression": "tiff_lzw"}),
        ("CMYK", {}),
        ("CMYK", {"compression": "tiff_lzw"}),
        ("LA", {}),
        ("P", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_tiff_of_other_kinds(mode: str, options: dict[str, object]) -> None:
    picture = Image.fromarray(photo()).convert(mode)
    data = saved(picture, "TIFF", **options)
    pixels = decoded(data)
    assert np.array_equal(pixels, reference(data))
    tolerance = 4 if options.get("compression") == "jpeg" else 0
    assert np.abs(pixels.astype(int) - np.asarray(picture.convert("RGB"))).mean() <= tolerance


def test_cmyk_is_not_inverted_in_a_tiff() -> None:
    data = saved(Image.fromarray(photo()).convert("CMYK"), "TIFF")
    assert np.abs(decoded(data).astype(int) - photo()).max() <= 1


@pytest.mark.parametrize("quality", [40, 90])
def test_lossy_webp_and_avif_are_close_to_what_was_saved(quality: int) -> None:
    for format in ("WEBP", "AVIF"):
        data = saved(photo(120, 160), format, quality=quality)
        assert np.array_equal(decoded(data), reference(data))
        assert np.abs(decoded(data).astype(int) - photo(120, 160)).mean() < 6


def test_avif_with_alpha() -> None:
    rgba = np.dstack([photo(), np.full((48, 64), 51, np.uint8)])
    found = decoded(saved(rgba, "AVIF", quality=100, subsampling="4:4:4"), background=(10, 200, 90))
    assert np.abs(found - over_white(rgba, (10, 200, 90))).max() <= 3


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "webp", "tiff", "avif"])
def test_one_pixel_and_very_long_ones(kind: str) -> None:
    for height, width in ((1, 1), (1, 700), (700, 1)):
        data = saved(photo(height, width), kind.upper())
        assert np.array_equal(decoded(data), reference(data)), (height, width)
