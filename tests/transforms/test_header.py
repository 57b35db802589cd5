"""Format, size and orientation by content; and what the row says when there is no picture in the bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tests.transforms.formats import dicom, exif, openexr, photo, radiance, saved
from transforms.errors import ImageError
from transforms.header import FORMATS, check_limits, read_header
from transforms.preprocessing import Preprocessing

LINEAR = photo().astype(np.float32) / 255
FILES = {
    "jpeg": saved(photo(), "JPEG"),
    "png": saved(photo(), "PNG"),
    "gif": saved(photo(), "GIF"),
    "bmp": saved(photo(), "BMP"),
    "webp": saved(photo(), "WEBP"),
    "tiff": saved(photo(), "TIFF"),
    "avif": saved(photo(), "AVIF"),
    "dicom": dicom(photo()[..., 0]),
    "openexr": openexr(LINEAR),
    "hdr": radiance(LINEAR),
}


def reason(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_header(data)
    assert caught.value.stage == "decode"
    return caught.value


def outcome(data: bytes) -> tuple[int, int] | str:
    try:
        header = read_header(data)
    except ImageError as error:
        return error.type
    return header.width, header.height


def test_every_format_has_a_file_here() -> None:
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_format_and_size(name: str) -> None:
    header = read_header(FILES[name])
    assert (header.format, header.width, header.height, header.orientation) == (name, 64, 48, 1)


@pytest.mark.parametrize(
    "data",
    [
        saved(photo(), "JPEG", progressive=True),
        saved(photo(), "WEBP", lossless=True),
        saved(photo(), "WEBP", exif=exif(1)),
        saved(photo(), "TIFF", compression="tiff_lzw"),
        saved(photo(), "TIFF", big_tiff=True),
        dicom(photo(), "RGB"),
        dicom(photo()[..., 0].astype(np.uint16), implicit=True),
        radiance(LINEAR, runs=True),
        b"\xff\xd8" + b"\xff" * 5 + FILES["jpeg"][3:],
    ],
)
def test_variants_have_the_same_size(data: bytes) -> None:
    header = read_header(data)
    assert (header.width, header.height) == (64, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif"])
def test_orientation_is_read_and_the_size_is_as_stored(name: str, orientation: int) -> None:
    header = read_header(saved(photo(), name.upper(), exif=exif(orientation)))
    assert (header.width, header.height, header.orientation) == (64, 48, orientation)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"junk"]
)
def test_a_damaged_exif_block_is_no_reason_to_fail(block: bytes) -> None:
    assert read_header(saved(photo(), "JPEG", exif=block)).orientation == 1
    assert read_header(saved(photo(), "PNG", exif=block)).orientation == 1


def test_an_orientation_out_of_range_is_ignored() -> None:
    assert read_header(saved(photo(), "JPEG", exif=exif(9))).orientation == 1


def test_an_empty_file() -> None:
    assert reason(b"").type == "empty"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just some words\n", "text"),
        ("Grüße".encode(), "text"),
        (b"\xef\xbb\xbf  <!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b'{"error": "not found"}', "JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer, not the file it points to"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "an MP4 or QuickTime file"),
        (b"\0" * 5000, "nothing but zero bytes"),
        (b"\x01\x02\x03\xfe", "unknown binary data (starts with 01 02 03 fe)"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    error = reason(data)
    assert error.type == "unsupported_format"
    assert error.message == f"not a picture in a known format: it looks like {words}"


@pytest.mark.parametrize("name", FORMATS)
def test_every_beginning_of_a_file_is_whole_or_has_a_reason(name: str) -> None:
    data = FILES[name]
    for end in {*range(1, min(len(data), 700)), len(data) // 2, len(data) - 1}:
        found = outcome(data[:end])
        assert found in ((64, 48), "truncated", "unsupported_format", "corrupt"), (end, found)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff\xd9", "the JPEG ends before any picture data"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "the JPEG ends inside its header, after 10 bytes"),
        (FILES["png"][:40], "the PNG ends before its picture is complete, after 40 bytes"),
        (FILES["png"][:-1], f"the PNG ends before its picture is complete, after {len(FILES['png']) - 1:,} bytes"),
        (FILES["webp"][:-1], f"the WebP ends after {len(FILES['webp']) - 1} of {len(FILES['webp'])} bytes"),
        (FILES["dicom"][:-1], "the DICOM holds 3,071 of 3,072 bytes of pixels"),
        (FILES["gif"][:6] + b"\0" * 20, "the GIF holds no frame"),
        (FILES["gif"][:13], "the GIF ends before its first frame is complete, after 13 bytes"),
    ],
)
def test_messages(data: bytes, message: str) -> None:
    assert reason(data).message == message


def test_a_bomb_is_refused_by_its_header() -> None:
    rows = zlib.compress(bytes(12_001) * 12_000)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(bomb) < 200_000
    with pytest.raises(ImageError) as caught:
        check_limits(read_header(bomb), bomb, Preprocessing())
    assert caught.value.type == "too_many_pixels"
    assert "12,000 x 12,000 = 144,000,000 pixels" in caught.value.message
    assert "100,000,000 pixels are allowed" in caught.value.message


def test_the_limit_itself_is_allowed() -> None:
    header = read_header(FILES["png"])
    check_limits(header, FILES["png"], Preprocessing(max_pixels=64 * 48))
    with pytest.raises(ImageError):
        check_limits(header, FILES["png"], Preprocessing(max_pixels=64 * 48 - 1))
