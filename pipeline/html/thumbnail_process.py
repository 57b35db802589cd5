"""The process that reads and decodes thumbnails: a job as JSON comes in, a JSON line for each picture goes out."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageOps

from transforms.errors import ImageError
from transforms.read import HttpSettings, ReadBytes

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")  # none that Pillow leaves to other programs
READERS = 4
MAX_PIXELS = 30_000_000  # as decoded: a JPEG comes at an eighth of its size
QUALITY = 70
WHITE = (255, 255, 255)

_decoding = threading.Semaphore(2)  # pictures in memory at one time
_speaking = threading.Lock()


def small_picture(data: bytes, side: int) -> bytes:
    """`data` as a WebP of at most `side` pixels each way, upright, on white.

    Raises:
        ImageError: it has too many pixels.
        Exception: Pillow's readers raise all kinds of errors on damaged files.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        picture.draft("RGB", (side, side))
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError("decode", "too_many_pixels", f"{picture.width:,} x {picture.height:,} pixels")
        upright = ImageOps.exif_transpose(picture)
        upright.thumbnail((side, side), reducing_gap=2.0)
        out = io.BytesIO()
        _flat(upright).save(out, "WEBP", quality=QUALITY, method=2)
    return out.getvalue()


def _flat(picture: Image.Image) -> Image.Image:
    """RGB, transparent parts on white, 16-bit grey in 8 bits."""
    if picture.mode.startswith("I"):
        return ImageOps.autocontrast(picture.point(lambda value: value / 256).convert("L")).convert("RGB")
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        flat = Image.new("RGB", picture.size, WHITE)
        flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
        return flat
    return picture.convert("RGB")


@dataclass(frozen=True)
class _Work:
    """A job, and where its answers go."""

    read: ReadBytes
    max_bytes: int
    side: int
    answers: IO[str]

    def picture(self, row: int, uri: str) -> None:
        try:
            data = self.read(uri, self.max_bytes)
            with _decoding:
                self._say(row)
                small = small_picture(data, self.side)
        except ImageError as error:
            self._say(row, why=error.message)
        except Exception:  # Pillow's readers raise all kinds of errors on damaged files
            self._say(row, why="no preview of this picture")
        else:
            self._say(row, data="data:image/webp;base64," + base64.b64encode(small).decode())

    def _say(self, row: int, data: str = "", why: str = "") -> None:
        with _speaking:
            self.answers.write(json.dumps({"row": row, "data": data, "why": why}) + "\n")
            self.answers.flush()


def main() -> None:
    """Answer for every picture of the job on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    job = json.load(sys.stdin)
    Image.MAX_IMAGE_PIXELS = None  # see MAX_PIXELS
    read = ReadBytes(HttpSettings(**job["http"]), tuple((name, value) for name, value in job["options"]))
    work = _Work(read, job["max_bytes"], job["side"], answers)
    with ThreadPoolExecutor(READERS) as pool:
        for row, uri in job["pictures"]:
            pool.submit(work.picture, row, uri)


if __name__ == "__main__":
    main()
    os._exit(0)  # no library's threads are waited for
