"""Whether a long run leaks: threads, open files and memory of the child at the end as near its beginning.

python -m benchmarks.leaks                    50,000 images of mixed quality, compared with the first 2,000
python -m benchmarks.leaks --images 2000      compared with the first 400, for every change

Exit code 1 when it leaks, or when a row is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.mixed import mixed_set, save_model, write_config

FILES = 1_000  # different ones; the rows repeat them
BATCH_SIZE = 32
SHARD_SIZE = 32
LOOKS = 0.05  # seconds between looks at the child
MORE_MEMORY = 0.03  # of what it was: the allocator's ups and downs
MORE_BYTES = 16 << 20  # and this much more, which the caches of a short run still take up
MORE_FILES = 4  # two shards' temporary files and folders come and go
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Look:
    """The child at one moment: images committed by then, its threads, open files and resident bytes."""

    images: int
    threads: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Finding:
    """One figure early and late in the run, as medians over a stretch of it, and the most that late may be."""

    name: str
    early: float
    late: float
    allowed: float

    @property
    def leaks(self) -> bool:
        return self.late > self.allowed

    def __str__(self) -> str:
        word = "LEAKS" if self.leaks else "as before"
        return f"{self.name:12} {self.early:10.1f} {self.late:10.1f}   at most {self.allowed:.1f}: {word}"


def watch(command: Sequence[str], output: Path) -> Iterator[Look]:
    """Run `command` and look at its child as long as it labels.

    Raises:
        RuntimeError: the command failed.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT) as run:
        while run.poll() is None:
            look = _look(run.pid, output)
            if look is not None:
                yield look
            time.sleep(LOOKS)
        assert run.stdout is not None
        if run.returncode:
            raise RuntimeError(f"exit code {run.returncode}: {run.stdout.read().decode()}")


def _look(parent: int, output: Path) -> Look | None:
    images = SHARD_SIZE * sum(len(os.listdir(folder)) for folder in output.glob("predictions/*"))
    try:
        for child in psutil.Process(parent).children():
            if images and "pipeline.child" in child.cmdline():
                with child.oneshot():
                    return Look(images, child.num_threads(), child.num_fds(), child.memory_info().rss)
    except psutil.NoSuchProcess:
        return None
    return None


def findings(looks: Sequence[Look], images: int, settled: int) -> list[Finding]:
    """Threads, open files and memory of the last tenth of a run beside those just after the first `settled` images.

    Raises:
        ValueError: there are no looks at one of the two, since the run was too short.
    """
    tenth = images // 10
    early = [look for look in looks if settled <= look.images < settled + tenth]
    late = [look for look in looks if look.images >= images - tenth]
    if not early or not late:
        raise ValueError(f"only {len(looks)} looks at a run of {images} images: take more images")
    threads, files, memory = (
        (median(getattr(look, name) for look in early), median(getattr(look, name) for look in late))
        for name in ("threads", "files", "bytes")
    )
    mebibyte = 1 << 20
    return [
        Finding("threads", *threads, threads[0]),
        Finding("open files", *files, files[0] + MORE_FILES),
        Finding(
            "memory, MiB",
            memory[0] / mebibyte,
            memory[1] / mebibyte,
            (memory[0] * (1 + MORE_MEMORY) + MORE_BYTES) / mebibyte,
        ),
    ]


def measure(folder: Path, images: int) -> list[Look]:
    """Label `images` images of mixed quality with `hublabel run` and look on.

    Raises:
        RuntimeError: the run failed, or has not a row for each image.
    """
    uris = mixed_set(folder / "photos", min(FILES, images), seed=11, broken=0.2)
    uris = (uris * -(-images // len(uris)))[:images]
    save_model(folder / "model")
    write_config(folder / "run.yaml", uris, folder / "model", folder / "out", BATCH_SIZE, SHARD_SIZE)
    command = [sys.executable, "-m", "pipeline.cli", "run", str(folder / "run.yaml")]
    looks = list(watch(command, folder / "out"))
    success = (folder / "out" / "_SUCCESS").read_text()
    if f'"rows": {images}' not in success:
        raise RuntimeError(f"{images} images, and the output says {success}")
    return looks


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="how many to label (default: 50000)")
    arguments = parser.parse_args()
    settled = min(2_000, arguments.images // 5)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        looks = measure(Path(folder), arguments.images)
    found = findings(looks, arguments.images, settled)
    print(f"{arguments.images} images in {time.monotonic() - began:.0f} s, looked at {len(looks)} times")
    print(f"{'':12} {f'at {settled}':>10} {'at the end':>10}")
    for finding in found:
        print(finding)
    return 1 if any(finding.leaks for finding in found) else 0


if __name__ == "__main__":
    sys.exit(main())
