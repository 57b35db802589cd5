"""Small files of every format: Pillow's, and those that no library here writes byte by byte."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
from PIL import Image


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth uint8 `[H, W, 3]`, different in every channel and corner, so that turns and swaps show."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 20 + 200 * rows / height
    green = 20 + 200 * columns / width
    blue = 128 + 90 * np.sin(rows / 9 + columns / 7)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def saved(pixels: np.ndarray | Image.Image, format: str, **options: object) -> bytes:
    """What Pillow writes."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block that holds nothing but the orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def openexr(linear: np.ndarray, names: str = "BGR", half: bool = True) -> bytes:
    """An uncompressed scan-line OpenEXR file of `[H, W, C]`; `names` are the channels as in the last axis."""
    height, width, _ = linear.shape
    kind, dtype = (1, "<f2") if half else (2, "<f4")
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    for name, type_name, value in (
        ("channels", "chlist", channels),
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ):
        head += name.encode() + b"\0" + type_name.encode() + b"\0" + struct.pack("<i", len(value)) + value
    head += b"\0"
    lines = []
    for y in range(height):
        row = np.ascontiguousarray(linear[y].T).astype(dtype).tobytes()
        lines.append(struct.pack("<ii", y, len(row)) + row)
    start = len(head) + 8 * height
    offsets = [start + sum(map(len, lines[:y])) for y in range(height)]
    return head + struct.pack(f"<{height}Q", *offsets) + b"".join(lines)


def radiance(linear: np.ndarray, runs: bool = False) -> bytes:
    """A Radiance HDR file of float `[H, W, 3]`, flat or with each scan line's channels as runs."""
    height, width, _ = linear.shape
    largest = np.maximum(linear.max(axis=2), 1e-30)
    exponent = np.floor(np.log2(largest)) + 1
    mantissa = np.clip(linear * (256 / 2**exponent)[..., None], 0, 255).astype(np.uint8)
    rgbe = np.concatenate([mantissa, (exponent + 128).astype(np.uint8)[..., None]], axis=2)
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    if not runs:
        return head + rgbe.tobytes()
    return head + b"".join(_run_row(row) for row in rgbe)


def _run_row(row: np.ndarray) -> bytes:
    encoded = b"\2\2" + len(row).to_bytes(2, "big")
    for channel in row.T:
        for start in range(0, len(channel), 100):
            literal = channel[start : start + 100].tobytes()
            encoded += bytes([len(literal)]) + literal
    return encoded


def dicom(
    stored: np.ndarray,
    photometric: str = "MONOCHROME2",
    window: tuple[int, int] | None = None,
    rescale: tuple[int, int] | None = None,
    implicit: bool = False,
) -> bytes:
    """A DICOM file (PS3.10) of native pixels: uint8, uint16 or int16 `[H, W]`, or uint8 `[H, W, 3]`."""

    def element(group: int, number: int, kind: str, value: bytes, short: bool = False) -> bytes:
        value += b"" if len(value) % 2 == 0 else (b"\0" if kind in ("UI", "OB", "OW") else b" ")
        tag = struct.pack("<HH", group, number)
        if implicit and not short:
            return tag + struct.pack("<I", len(value)) + value
        if kind in ("OB", "OW", "SQ"):
            return tag + kind.encode() + b"\0\0" + struct.pack("<I", len(value)) + value
        return tag + kind.encode() + struct.pack("<H", len(value)) + value

    def word(value: int) -> bytes:
        return struct.pack("<H", value)

    syntax = b"1.2.840.10008.1.2" if implicit else b"1.2.840.10008.1.2.1"
    meta = element(2, 0x0001, "OB", b"\0\1", True) + element(2, 0x0002, "UI", b"1.2.840.10008.5.1.4.1.1.7", True)
    meta += element(2, 0x0003, "UI", b"1.2.3", True) + element(2, 0x0010, "UI", syntax, True)
    meta = element(2, 0, "UL", struct.pack("<I", len(meta)), True) + meta
    bits, samples = stored.dtype.itemsize * 8, stored.shape[2] if stored.ndim == 3 else 1
    body = element(0x0008, 0x0016, "UI", b"1.2.840.10008.5.1.4.1.1.7")
    # A sequence of undefined length with one item of undefined length: readers must step through it
    inner = element(0x0008, 0x0100, "SH", b"CODE")
    head = struct.pack("<HH", 0x0008, 0x2218) + (b"" if implicit else b"SQ\0\0") + struct.pack("<I", 0xFFFFFFFF)
    body += head + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
    body += struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    body += element(0x0028, 0x0002, "US", word(samples)) + element(0x0028, 0x0004, "CS", photometric.encode())
    if samples > 1:
        body += element(0x0028, 0x0006, "US", word(0))
    body += element(0x0028, 0x0010, "US", word(stored.shape[0])) + element(0x0028, 0x0011, "US", word(stored.shape[1]))
    body += element(0x0028, 0x0100, "US", word(bits)) + element(0x0028, 0x0101, "US", word(bits))
    body += element(0x0028, 0x0102, "US", word(bits - 1))
    body += element(0x0028, 0x0103, "US", word(int(stored.dtype.kind == "i")))
    for first, values in ((0x1050, window), (0x1052, rescale)):
        for offset, value in enumerate(values or ()):
            body += element(0x0028, first + offset, "DS", str(value).encode())
    body += element(0x7FE0, 0x0010, "OW" if bits == 16 else "OB", stored.tobytes())
    return b"\0" * 128 + b"DICM" + meta + body


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flip, insert, remove, cut or repeat, most often near the start, where structure is."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(body), 600) if rng.random() < 0.6 else len(body))
        match rng.randrange(6):
            case 0:
                body[at] = rng.randrange(256)
            case 1:
                body[at] ^= 1 << rng.randrange(8)
            case 2:
                body[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3 if len(body) > 64:
                del body[at : at + rng.randint(1, 8)]
            case 4 if len(body) > 64:
                del body[rng.randrange(32, len(body)) :]
            case _:
                body[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
    return bytes(body)
