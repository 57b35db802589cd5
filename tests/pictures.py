"""Pictures whose label can be told from their colour."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

COLOURS = ("red", "green", "blue")


def picture_bytes(colour: Sequence[int], size: tuple[int, int] = (20, 16), format: str = "PNG") -> bytes:
    """A picture of one colour, (width, height) pixels large."""
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(buffer, format)
    return buffer.getvalue()


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour of its own for each number below 8,633, with a best channel that follows from it."""
    colour = [10 + number % 97, 10 + number % 89, 10 + number // 97 % 89]
    colour[number % 3] += 110
    return (colour[0], colour[1], colour[2])
