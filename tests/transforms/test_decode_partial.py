"""`image.allow_truncated`: what there is of a picture comes out as it is, and the rest is one colour."""

from __future__ import annotations

import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.transforms.formats import exif, openexr, photo, radiance, saved
from tests.transforms.test_header import FILES
from transforms.decode import decode_image
from transforms.decode_images import open_picture
from transforms.errors import ImageError
from transforms.header import FORMATS, read_header
from transforms.preprocessing import Preprocessing
from transforms.records import Row

STRICT, LENIENT = Preprocessing(), Preprocessing(allow_truncated=True)
GREY = 128


def large() -> np.ndarray:
    noise = np.random.default_rng(3).integers(-12, 13, (300, 400, 3))
    return np.clip(photo(300, 400) + noise, 0, 255).astype(np.uint8)


def decoded(data: bytes, spec: Preprocessing = LENIENT) -> np.ndarray:
    pixels = decode_image(data, read_header(data, spec.allow_truncated), spec)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    return pixels


def reason(data: bytes, spec: Preprocessing = LENIENT) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoded(data, spec)
    return caught.value


def rows_kept(data: bytes, part: float, tolerance: int = 0) -> tuple[int, np.ndarray]:
    """Of a file cut to `part`: its first rows that are those of the whole picture, and what comes after them."""
    whole, cut = decoded(data, STRICT), data[: int(len(data) * part)]
    assert reason(cut, STRICT).type == "truncated"
    found = decoded(cut)
    assert found.shape == whole.shape
    same = (np.abs(found.astype(int) - whole) <= tolerance).all(axis=(1, 2))
    kept = int(np.argmin(same)) if not same.all() else len(same)
    return kept, found[kept:]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0, "quality": 90}, {"restart_marker_rows": 1}])
def test_jpeg(mode: str, options: dict[str, object]) -> None:
    kept, rest = rows_kept(saved(Image.fromarray(large()).convert(mode), "JPEG", **options), 0.5)
    assert 100 < kept < 200
    assert np.ptp(rest[32:].reshape(-1, 3), axis=0).max() == 0  # beyond the row of blocks that was cut
    if mode != "CMYK":
        assert (rest[32:] == GREY).all()


def test_a_progressive_jpeg_is_blurred_instead() -> None:
    data = saved(large(), "JPEG", progressive=True)
    difference = np.abs(decoded(data[: len(data) * 2 // 3]).astype(int) - decoded(data, STRICT))
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_png(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(large()[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(large()).convert(mode)
    kept, rest = rows_kept(saved(picture, "PNG"), 0.5)
    assert 60 < kept < 240
    assert (rest[1:] == GREY).all()


def test_an_interlaced_png_keeps_its_first_passes() -> None:
    # No library here writes them: eight rows of eight, a byte each; the seventh pass holds the odd rows.
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    columns, lines = np.meshgrid(np.arange(8), np.arange(8))
    values = (columns * 16 + lines * 8 + 50).astype(np.uint8)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [b"".join(b"\0" + row.tobytes() for row in values[y::down, x::across]) for x, y, across, down in passes]
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1))
    whole = head + chunk(b"IDAT", zlib.compress(b"".join(parts), 0)) + chunk(b"IEND", b"")
    assert np.array_equal(decoded(whole, STRICT)[..., 0], values)
    cut = whole[: len(whole) - 12 - 8 - len(parts[-1])]  # behind it: two checksums, the last pass
    found = decoded(cut)[..., 0]
    assert np.array_equal(found[::2], values[::2])
    assert not found[1::2].any()


@pytest.mark.parametrize("alpha", [False, True])
def test_gif(alpha: bool) -> None:
    picture = Image.fromarray(large()).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    options = {"transparency": 5} if alpha else {}
    kept, rest = rows_kept(saved(picture, "GIF", interlace=0, **options), 0.5)
    assert 60 < kept < 240
    assert np.ptp(rest[1:].reshape(-1, 3), axis=0).max() == 0


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1"])
def test_bmp(mode: str) -> None:
    data = saved(Image.fromarray(large()).convert(mode), "BMP")
    whole, found = decoded(data, STRICT), decoded(data[: len(data) // 2])
    # Stored from the bottom to the top.
    assert np.array_equal(found[170:], whole[170:])
    assert np.ptp(found[:130].reshape(-1, 3), axis=0).max() == 0
    if mode == "RGB":
        assert (found[:130] == GREY).all()


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": exif(1)}])
def test_webp(options: dict[str, object]) -> None:
    kept, rest = rows_kept(saved(large(), "WEBP", **options), 0.6)
    assert 100 < kept < 240
    assert (rest == GREY).all()


@pytest.mark.parametrize("turn", [1, 6])
def test_tiff_whose_directory_comes_first(turn: int) -> None:
    data = saved(large(), "TIFF", exif=exif(turn))
    whole, found = decoded(data, STRICT), decoded(data[: len(data) // 2])
    assert found.shape == whole.shape
    if turn == 6:  # the top is on the right
        whole, found = np.rot90(whole), np.rot90(found)
    assert np.array_equal(found[:140], whole[:140])
    assert not found[160:].any()


def test_what_is_left_must_tell_a_size_and_something_of_the_picture() -> None:
    for name in FORMATS:
        for end in (40, 60):
            assert reason(FILES[name][:end]).type in ("truncated", "corrupt", "unsupported_format"), (name, end)
    jpeg = saved(large(), "JPEG")
    assert reason(jpeg[: jpeg.index(b"\xff\xda") + 14]).type == "truncated"
    png = FILES["png"]
    assert reason(png[: png.index(b"IDAT") + 6]).type == "truncated"
    lzw = saved(large(), "TIFF", compression="tiff_lzw")
    assert reason(lzw[: len(lzw) // 2]).message.startswith("the TIFF ends before its directory")


@pytest.mark.parametrize("data", [FILES["avif"], FILES["dicom"], openexr(photo() / 255), radiance(photo() / 255)])
def test_formats_that_are_decoded_whole_or_not_at_all(data: bytes) -> None:
    assert reason(data[: len(data) * 3 // 4]).type in ("truncated", "corrupt")


def test_damage_is_no_truncation() -> None:
    jpeg = FILES["jpeg"]
    at = jpeg.index(b"\xff\xda") + 200
    assert reason(jpeg[:at] + b"\xff\xff\xff\x7f" * 8 + jpeg[at + 32 :]).type == "corrupt"
    assert reason(FILES["png"][:60] + b"\0\0\0\0" + FILES["png"][64:]).type == "corrupt"


def test_whole_pictures_are_what_they_are_without() -> None:
    for data in FILES.values():
        assert np.array_equal(decoded(data), decoded(data, STRICT))


def test_a_bmp_whose_pixels_are_far_away_takes_no_memory() -> None:
    data = bytearray(FILES["bmp"])
    struct.pack_into("<I", data, 10, 2**32 - 1)
    assert reason(bytes(data)).type == "truncated"


def test_a_webp_that_claims_to_be_huge_takes_no_memory() -> None:
    data = bytearray(FILES["webp"])
    struct.pack_into("<I", data, 4, 2**31)
    assert reason(bytes(data[: len(data) // 2])).type == "truncated"


def test_the_row_is_filled_in_and_a_reduced_jpeg_is_partial_too() -> None:
    spec = Preprocessing(height=24, width=32, antialias=True, allow_truncated=True)
    data = saved(photo(960, 1280), "JPEG")
    row = Row(0, 0, "x")
    pixels = open_picture(data[: len(data) // 2], row, spec)
    whole = open_picture(data, Row(0, 0, "x"), spec)
    assert (row.format, row.width, row.height) == ("jpeg", 1280, 960)
    assert np.array_equal(pixels[:8], whole[:8])
    assert (pixels[-4:] == GREY).all()


def test_threads_do_not_share_the_leniency() -> None:
    files = {name: saved(large(), name.upper()) for name in ("jpeg", "png", "gif", "bmp", "webp", "tiff")}
    cut = {name: data[: len(data) * 2 // 3] for name, data in files.items()}
    expected = {name: decoded(data) for name, data in cut.items()}
    wrong: list[str] = []

    def lenient() -> None:
        for _ in range(5):
            wrong.extend(name for name, data in cut.items() if not np.array_equal(decoded(data), expected[name]))

    def strict() -> None:
        for _ in range(5):
            for name, data in cut.items():
                try:
                    decoded(data, STRICT)
                except ImageError as error:
                    if error.type == "truncated":
                        continue
                wrong.append(name)

    threads = [threading.Thread(target=work) for work in (lenient, strict) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
