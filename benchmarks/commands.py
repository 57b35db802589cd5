"""The whole commands that are compared, and what one run of each costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "efficientnet-lite0"
LABELS = ROOT / "configs" / "labels" / "ilsvrc2012_wordnet_lemmas.txt"
SAMPLING = 0.02  # seconds between looks at the memory of the processes


@dataclass(frozen=True)
class Cost:
    """What one run of a command took.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of all its processes, user and system.
        first: seconds from its start to the first labelled batch (hublabel: committed to disk).
        rate: images a second between the first tenth and the last tenth of the images.
        largest_bytes: peak resident memory of its largest process.
        tree_bytes: peak of the sum over its processes (memory they share is counted in each).
    """

    seconds: float
    cpu_seconds: float
    first: float
    rate: float
    largest_bytes: int
    tree_bytes: int


def run_hublabel(images: Path, scratch: Path, *overrides: str) -> Cost:
    """Run `hublabel run configs/quickstart.yaml` over `images`."""
    output = scratch / "hublabel"
    shutil.rmtree(output, ignore_errors=True)
    settings = [f"input.path={images}", f"output.path={output}", *overrides]
    command = [sys.executable, "-m", "pipeline.cli", "run", "configs/quickstart.yaml"]
    return _run([*command, *(part for setting in settings for part in ("--set", setting))], lambda: _commits(output))


def run_tf_data_script(images: Path, scratch: Path) -> Cost:
    """Run tf_data_script.py over `images`."""
    timings = scratch / "timings.json"
    files = {"--images": images, "--model": MODEL, "--labels": LABELS, "--output": scratch / "labels.parquet"}
    arguments = [str(part) for pair in files.items() for part in pair]
    command = [sys.executable, "benchmarks/tf_data_script.py", *arguments, "--timings", str(timings)]
    return _run(command, lambda: [(int(done), at) for done, at in json.loads(timings.read_text(encoding="utf-8"))])


def _commits(output: Path) -> list[tuple[int, float]]:
    """Rows on disk and since when, from the parts' footers."""
    footers = [json.loads(pq.read_metadata(path).metadata[b"hublabel"]) for path in output.rglob("part-*.parquet")]
    done, rows = [], 0
    for finished, count in sorted((footer["finished"], footer["rows"]) for footer in footers):
        rows += count
        done.append((rows, finished))
    return done


def _run(command: list[str], read_progress: Callable[[], list[tuple[int, float]]]) -> Cost:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as on a user's machine: nothing is compiled anew each time
    began_at, began = time.time(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    complaints: list[str] = []
    drain = threading.Thread(target=lambda: complaints.extend(process.stderr or ()), daemon=True)
    drain.start()
    sampler = _MemorySampler(process.pid)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)  # its usage includes that of the children it has waited for
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    sampler.stop()
    drain.join(timeout=1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(complaints)}")
    progress = read_progress()
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        first=progress[0][1] - began_at,
        rate=steady_rate(progress),
        largest_bytes=usage.ru_maxrss * unit,
        tree_bytes=sampler.peak,
    )


def steady_rate(progress: list[tuple[int, float]]) -> float:
    """Images a second between the first and the last tenth; pairs of images done and seconds."""
    total = progress[-1][0]
    middle = [pair for pair in progress if 0.1 * total <= pair[0] <= 0.9 * total]
    if len(middle) < 2:
        return float("nan")
    return (middle[-1][0] - middle[0][0]) / (middle[-1][1] - middle[0][1])


class _MemorySampler(threading.Thread):
    """Watches the resident memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLING):
            try:
                processes = [self._root, *self._root.children(recursive=True)]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in processes))
            except psutil.Error:
                continue

    def stop(self) -> None:
        self._stopped.set()
        self.join()
