"""EXIF: nothing but the orientation, and never a reason to fail a picture."""

from __future__ import annotations

import struct

ORIENTATION = 0x0112
SHORT = 3
LONGEST_DIRECTORY = 512


def orientation(exif: bytes) -> int:
    """Read the orientation out of an EXIF block (a TIFF file, with or without the `Exif\\0\\0` before it).

    Returns:
        1 to 8; 1 for a block that is empty, damaged, or says nothing (TIFF 6.0, section 2).
    """
    tiff = exif[6:] if exif[:6] == b"Exif\0\0" else exif
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return 1
    try:
        return _first_directory(tiff, order)
    except struct.error:
        return 1


def _first_directory(tiff: bytes, order: str) -> int:
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(min(count, LONGEST_DIRECTORY)):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
        if tag == ORIENTATION:
            return value if kind == SHORT and 1 <= value <= 8 else 1
    return 1
