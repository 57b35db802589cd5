"""Decode damaged pictures of every format and kind, the same ones for the same seed, and look for what must not happen.

Each of the mutated files is decoded twice, strictly and with `image.allow_truncated`, in a process of its own that is
watched: no crash, no hang, no growth of memory; a picture or a reason in our words for each. The long form:

    python -m benchmarks.fuzz [--cases 20000] [--seed 0] [--write]
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import select
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.tables import replace_table, table
from tests.transforms.formats import dicom, exif, mutated, openexr, photo, radiance, saved

TIMEOUT = 20.0  # seconds for one file; the slowest is measured
WARM_UP = 0.25  # of the cases, after which memory must not grow any more
PAGE = Path(__file__).resolve().parents[1] / "docs" / "images.md"
OUR_TYPES = {"empty", "unsupported_format", "truncated", "corrupt", "too_many_pixels", "out_of_memory"}
THEIR_WORDS = re.compile(r"node|tensorflow|\[Op|/job|0x[0-9a-f]{6}|Traceback")


@cache
def corpus() -> dict[str, tuple[bytes, ...]]:
    """Whole files by format, several kinds of each."""
    rgb = Image.fromarray(photo())
    rgba = Image.fromarray(np.dstack([photo(), np.linspace(0, 255, 48 * 64).reshape(48, 64).astype(np.uint8)]))
    grey16 = Image.fromarray(photo()[..., 0].astype(np.uint16) * 257)
    frames = [rgb, Image.fromarray(255 - photo())]
    linear = photo().astype(np.float32) / 255
    animated: dict[str, object] = {"save_all": True, "append_images": frames[1:]}
    stored = photo()[..., 0]
    return {
        "jpeg": (
            saved(rgb, "JPEG"), saved(rgb, "JPEG", progressive=True, exif=exif(6)), saved(rgb.convert("L"), "JPEG"),
            saved(rgb.convert("CMYK"), "JPEG"), saved(rgb, "JPEG", restart_marker_rows=1, subsampling=0),
        ),
        "png": (
            saved(rgb, "PNG"), saved(rgba, "PNG", exif=exif(3)), saved(grey16, "PNG"), saved(rgb.convert("P"), "PNG"),
            saved(rgb.convert("1"), "PNG"), saved(rgb, "PNG", **animated),
        ),
        "gif": (saved(rgb, "GIF"), saved(rgb, "GIF", **animated), saved(rgba, "GIF"), saved(rgb, "GIF", interlace=0)),
        "bmp": (saved(rgb, "BMP"), saved(rgb.convert("P"), "BMP"), saved(rgb.convert("1"), "BMP"), saved(rgba, "BMP")),
        "webp": (
            saved(rgb, "WEBP"), saved(rgba, "WEBP", lossless=True), saved(rgba, "WEBP", exif=exif(8)),
            saved(rgb, "WEBP", **animated),
        ),
        "tiff": (
            saved(rgb, "TIFF"), saved(rgb, "TIFF", compression="tiff_lzw"), saved(rgba, "TIFF", exif=exif(5)),
            saved(rgb, "TIFF", compression="tiff_adobe_deflate"), saved(rgb, "TIFF", compression="jpeg"),
            saved(grey16, "TIFF"), saved(rgb.convert("1"), "TIFF", compression="group4"),
            saved(rgb, "TIFF", big_tiff=True),
        ),
        "avif": (saved(rgb, "AVIF"), saved(rgba, "AVIF"), saved(rgb, "AVIF", **animated)),
        "dicom": (
            dicom(stored), dicom(stored.astype(np.uint16), window=(128, 200)), dicom(photo(), "RGB"),
            dicom(stored.astype(np.int16), "MONOCHROME1", rescale=(-9, 2), implicit=True),
        ),
        "openexr": (openexr(linear), openexr(linear[..., :1], "Y", half=False), *_compressed_openexr(linear)),
        "hdr": (radiance(linear), radiance(linear, runs=True)),
    }  # fmt: skip


def _compressed_openexr(linear: np.ndarray) -> list[bytes]:
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    import cv2

    kinds = (cv2.IMWRITE_EXR_COMPRESSION_RLE, cv2.IMWRITE_EXR_COMPRESSION_ZIP, cv2.IMWRITE_EXR_COMPRESSION_PIZ)
    pixels = np.ascontiguousarray(linear[..., ::-1])
    return [cv2.imencode(".exr", pixels, [cv2.IMWRITE_EXR_COMPRESSION, kind])[1].tobytes() for kind in kinds]


def case(number: int, seed: int) -> tuple[str, bytes]:
    """Format and bytes of a mutated file."""
    files = corpus()
    name = list(files)[number % len(files)]
    rng = random.Random(f"{seed}-{number}")
    data = mutated(rng.choice(files[name]), rng)
    return name, _with_checksums(data) if name == "png" and rng.random() < 0.7 else data


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, so that damage gets behind them."""
    body, at = bytearray(data), 8
    while at + 12 <= len(body):
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if end + 4 > len(body):
            break
        body[end : end + 4] = zlib.crc32(body[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(body)


def work(start: int, stop: int, seed: int) -> None:
    """Decode the cases, a line for each before and after it, and the memory of the process now and then."""
    from transforms.decode_images import open_picture
    from transforms.errors import ImageError
    from transforms.preprocessing import Preprocessing
    from transforms.records import Row

    strict = Preprocessing(height=32, width=32, max_pixels=1_000_000)
    for whole in corpus().values():  # loads every library, which is none of the first case's time
        open_picture(whole[0], Row(0, 0, ""), strict)
    memory = psutil.Process().memory_info
    for number in range(start, stop):
        name, data = case(number, seed)
        print("begin", number, name, flush=True)
        began = time.perf_counter()
        for spec in (strict, replace(strict, allow_truncated=True)):
            try:
                pixels = open_picture(data, Row(0, 0, ""), spec)
                assert pixels.shape == (32, 32, 3)
                outcome = "decoded"
            except ImageError as error:
                outcome = error.type
                if error.type not in OUR_TYPES or THEIR_WORDS.search(error.message) or len(error.message) > 200:
                    outcome = f"bad_reason:{error.type}"
            except Exception as error:
                outcome = f"unexpected:{type(error).__name__}"
            print("end", "strict" if spec is strict else "lenient", outcome)
        print("done", f"{time.perf_counter() - began:.4f}", memory().rss, flush=True)


@dataclass
class Findings:
    """What came of the cases.

    Attributes:
        outcomes: (format, strict or lenient, outcome) -> how often.
        crashes: number of the case -> how its process ended.
        hangs: numbers of cases that took longer than `TIMEOUT`.
        slowest: seconds of the slowest case, and its number.
        memory: bytes of the process after each case.
    """

    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    crashes: dict[int, str] = field(default_factory=dict)
    hangs: list[int] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    memory: list[int] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that must not happen, in words."""
        found = [f"case {number}: the process ended with {end}" for number, end in self.crashes.items()]
        found += [f"case {number}: no end within {TIMEOUT:g} seconds" for number in self.hangs]
        return found + [f"{key}: {count}" for key, count in self.outcomes.items() if ":" in key[2]]

    @property
    def growth(self) -> int:
        """Bytes by which the process grew after the warm-up, outliers of single pictures left out (medians)."""
        window = max(1, len(self.memory) // 20)
        first = int(len(self.memory) * WARM_UP)
        before, after = self.memory[first : first + window], self.memory[-window:]
        return int(np.median(after) - np.median(before)) if before else 0


def run(cases: int, command: Callable[[int], list[str]], timeout: float = TIMEOUT) -> Findings:
    """Watch processes that work on the cases; one that crashes or hangs is followed by another behind its case.

    Args:
        cases: how many.
        command: what works on the cases from a number on, and prints as `work` does.
        timeout: seconds for a case; a process may take 120 to start.
    """
    findings, start = Findings(), 0
    while start < cases:
        process = subprocess.Popen(command(start), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        at = _watch(process, findings, start, timeout)
        process.kill()
        code = process.wait()
        if at is None:
            break
        if findings.hangs[-1:] != [at]:
            findings.crashes[at] = f"signal {-code}" if code < 0 else f"exit code {code}"
        start = at + 1
    return findings


def _watch(process: subprocess.Popen[bytes], findings: Findings, start: int, timeout: float) -> int | None:
    """Take up what the process says until it ends; the case it was at if it did not finish, else None."""
    at, name, busy = start, "", True
    for line in _lines(process, 120.0, timeout):
        if line is None and not busy:
            return None  # all is done, and nobody waits for the libraries to unload
        if line is None:
            findings.hangs.append(at)
            return at
        word, *values = line.split()
        if word == "begin":
            at, name, busy = int(values[0]), values[1], True
        elif word == "end":
            findings.outcomes[name, values[0], values[1]] += 1
        elif word == "done":
            busy = False
            findings.slowest = max(findings.slowest, (float(values[0]), at))
            findings.memory.append(int(values[1]))
    return at if busy else None


def _lines(process: subprocess.Popen[bytes], first: float, timeout: float) -> Iterator[str | None]:
    """Lines of the process's output; None when none comes in time."""
    assert process.stdout is not None
    pipe, rest, patience = process.stdout.fileno(), b"", first
    while True:
        if not select.select([pipe], [], [], patience)[0]:
            yield None
            return
        block = os.read(pipe, 65536)
        if not block:
            return
        patience = timeout
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode() for line in lines)


def summary(findings: Findings, cases: int, seed: int) -> str:
    """The findings as Markdown."""
    rows = []
    for name in corpus():
        counts = {mode: Counter[str]() for mode in ("strict", "lenient")}
        for (found, mode, outcome), count in findings.outcomes.items():
            if found == name:
                counts[mode][outcome] += count
        strict = counts["strict"]
        others = strict.total() - sum(strict[kind] for kind in ("decoded", "truncated", "corrupt"))
        values = [strict.total(), strict["decoded"], strict["truncated"], strict["corrupt"], others]
        rows.append([name, *(f"{value:,}" for value in (*values, counts["lenient"]["decoded"]))])
    seconds, number = findings.slowest
    said = io.StringIO()
    print(f"{cases:,} mutated files (seed {seed}), each decoded twice: {len(findings.crashes)} crashes,", file=said)
    print(f"{len(findings.hangs)} hangs, slowest file {seconds:.2f} s (number {number}), memory", file=said)
    print(
        f"{findings.growth / 2**20:+.1f} MiB from the first quarter to the end (each call of TensorFlow 2.16", file=said
    )
    print("that fails leaks 1 to 4 kB).\n", file=said)
    header = ["format", "files", "decoded", "truncated", "corrupt", "other reasons", "decoded with `allow_truncated`"]
    return said.getvalue() + table(header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the table into docs/images.md")
    parser.add_argument("--work", type=int, metavar="START", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.cases, arguments.seed)
        return 0
    options = ["--cases", str(arguments.cases), "--seed", str(arguments.seed)]
    program = [sys.executable, "-m", "benchmarks.fuzz", *options]
    findings = run(arguments.cases, lambda start: [*program, "--work", str(start)])
    text = summary(findings, arguments.cases, arguments.seed)
    print(text, *findings.wrong, sep="\n")
    if arguments.write:
        replace_table("fuzz", text, PAGE)
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
