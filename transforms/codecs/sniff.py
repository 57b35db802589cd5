"""What bytes are, by their first few: the formats that are decoded, and a name for those that are not."""

from __future__ import annotations

import re

_START = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x76\x2f\x31\x01", "openexr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
)
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"ID3", "an MP3 file"),
    (b"OggS", "an Ogg file"),
    (b"SQLite format 3", "an SQLite database"),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"msf1")
_SAMPLE = 1024
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_TEXT = (
    ((b"<!doctype html", b"<html", b"<head", b"<body"), "an HTML page"),
    ((b"<svg",), "an SVG drawing"),
    ((b"<?xml",), "an XML document"),
    ((b"{", b"["), "JSON text"),
)


def sniff(data: bytes) -> str | None:
    """Name the format of `data` as `Header.format` does, or None where it is not one that is decoded."""
    for magic, name in _START:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "avif"
    if data[128:132] == b"DICM":
        return "dicom"
    return None


def _brands(data: bytes) -> list[bytes]:
    """The major and compatible brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return [box[i : i + 4] for i in range(0, len(box), 4) if i != 4]


def _is_avif(data: bytes) -> bool:
    brands = _brands(data)
    return b"avif" in brands or b"avis" in brands


def looks_like(data: bytes) -> str:
    """Say in a few words what bytes that are no known picture look like."""
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a HEIC picture" if set(_brands(data)) & set(_HEIF) else "an MP4 or QuickTime file"
    if not data.strip(b"\0"):
        return "nothing but zero bytes"
    return _text(data[:_SAMPLE]) or "unknown binary data (starts with " + data[:8].hex(" ") + ")"


def _text(start: bytes) -> str | None:
    if _CONTROL.search(start):
        return None
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character that our own cut halved is still text.
        if len(start) < _SAMPLE or error.start < len(start) - 3:
            return None
    body = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in body:
        return "an SVG drawing"
    for openings, name in _TEXT:
        if body.startswith(openings):
            return name
    return "text"
