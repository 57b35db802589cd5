"""`hublabel run` on a Flink session cluster of this machine, beside the DirectRunner: rates, start-up and memory.

The command, once `deploy/flink/fetch` has got Flink:

    python -m benchmarks.flink [--images 2000] [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.commands import MODEL, agreement, labels_below, run_hublabel
from benchmarks.measured import Cost
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table
from deploy.flink.session import HOST, ROOT, Ports, Session

PAGE = ROOT / "docs" / "flink.md"
DIRECT = "DirectRunner"
CASES = {
    "2 tasks, one a TaskManager": {"parallelism": 2},
    "4 tasks, two a TaskManager": {"parallelism": 4},
    "4 tasks, two workers a TaskManager": {"parallelism": 4, "sdk_worker_parallelism": 2},
    "2 tasks, `PIPELINED`": {"parallelism": 2, "execution_mode_for_batch": "PIPELINED"},
}
LOOKS = 0.2  # seconds between looks at the memory
MIB = 2**20


class Memory(threading.Thread):
    """Watches the peak resident memory of a session's processes, and counts the workers that label.

    Attributes:
        peaks: bytes, by kind and process.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(daemon=True)
        self.peaks: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._session = session
        self._ended = threading.Event()

    def run(self) -> None:
        session = self._session
        kinds = {
            "JobManager": [session.jobmanager],
            "TaskManager": session.taskmanagers,
            "worker pool": [session.pool],
            "job server": [session.jobserver],
        }
        pool = psutil.Process(session.pool.pid)
        while not self._ended.wait(LOOKS):
            for kind, processes in kinds.items():
                for process in processes:
                    self._look(kind, psutil.Process(process.pid))
            for worker in pool.children():
                self._look("worker", worker)

    def _look(self, kind: str, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            peak = max(self.peaks[kind].get(process.pid, 0), process.memory_info().rss)
            self.peaks[kind][process.pid] = peak

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def largest(self, kind: str) -> int:
        """MiB of the largest process of a kind."""
        return max(self.peaks[kind].values()) // MIB


@contextlib.contextmanager
def watched(session: Session) -> Iterator[Memory]:
    """The memory of `session` while the body runs."""
    memory = Memory(session)
    memory.start()
    try:
        yield memory
    finally:
        memory.stop()


def measure(photos: Path, scratch: Path) -> dict[str, tuple[Cost, Memory | None]]:
    """Each case once, and the DirectRunner, all with the same labels.

    Raises:
        RuntimeError: the labels differ.
    """
    found: dict[str, tuple[Cost, Memory | None]] = {DIRECT: (run_hublabel(photos, scratch, name=DIRECT), None)}
    (scratch / "session").mkdir()
    with Session(scratch / "session", ports=Ports.free()) as session:
        places = {
            "job_endpoint": f"{HOST}:{session.ports.jobs}",
            "environment_config": f"{HOST}:{session.ports.workers}",
        }
        for name, options in CASES.items():
            settings = [f"runner.options.{key}={value}" for key, value in {**places, **options}.items()]
            settings += [f"model.staging={scratch / 'staged'}", f"model.handle={MODEL}"]
            with watched(session) as memory:
                cost = run_hublabel(photos, scratch, *settings, name=name, config="configs/flink.yaml")
            found[name] = (cost, memory)
            print(f"{name}: {cost.rate:.1f} images/s, first commit after {cost.first:.1f} s", flush=True)
            if agreement(labels_below(scratch / DIRECT), labels_below(scratch / name)) < 1:
                raise RuntimeError(f"{name}: other labels than the DirectRunner's")
    return found


def report(images: int, write: bool) -> None:
    """Measure, print, and put the tables into docs/flink.md when `write`."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        found = measure(photo_folder(Path(folder) / "photos", images), Path(folder))
    rows = [
        [name, f"{cost.first:.1f}", f"{cost.rate:.1f}", str(memory.largest("worker")) if memory else ""]
        for name, (cost, memory) in found.items()
    ]
    rates = table(["", "command to first commit, s", "images/s", "largest worker, MiB"], rows)
    last = [memory for _, memory in found.values() if memory][-1]
    kinds = ["JobManager", "TaskManager", "job server", "worker pool"]
    parts = table([*kinds], [[str(last.largest(kind)) for kind in kinds]])
    text = (
        f"{images:,} photos ({photo_kind()}), {psutil.cpu_count()} cores for all of it, one run each, the same labels "
        f"in all.\n\n{rates}\n\nPeak memory of the other parts after these jobs, MiB:\n\n{parts}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("flink", text, PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/flink.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.write)


if __name__ == "__main__":
    main()
