"""`hublabel run` on a Flink session cluster of this machine, beside the DirectRunner: what it costs.

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

from benchmarks.commands import agreement, labels_below, run_hublabel
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


def processor_seconds(session: Session) -> float:
    """What the session's processes have used so far, the workers that have ended included."""
    times = [psutil.Process(process.pid).cpu_times() for process in session.processes]
    return float(sum(found.user + found.system + found.children_user + found.children_system for found in times))


def measure(photos: Path, scratch: Path) -> tuple[list[list[str]], Memory]:
    """Label `photos` by the DirectRunner and in each case on Flink.

    Returns:
        A row of the table for each, and the memory of the last case.

    Raises:
        RuntimeError: the labels differ.
    """
    direct = run_hublabel(photos, scratch, name=DIRECT)
    rows = [_row(DIRECT, direct, direct.cpu_seconds, None)]
    (scratch / "session").mkdir()
    with Session(scratch / "session", ports=Ports.free()) as session:
        places = {
            "runner.options.job_endpoint": f"{HOST}:{session.ports.jobs}",
            "runner.options.environment_config": f"{HOST}:{session.ports.workers}",
            "model.staging": scratch / "staged",
        }
        for name, options in CASES.items():
            settings = {**places, **{f"runner.options.{key}": value for key, value in options.items()}}
            overrides = [f"{key}={value}" for key, value in settings.items()]
            before = processor_seconds(session)
            with watched(session) as memory:
                cost = run_hublabel(photos, scratch, *overrides, name=name, config="configs/flink.yaml")
            rows.append(_row(name, cost, processor_seconds(session) - before + cost.cpu_seconds, memory))
            if agreement(labels_below(scratch / DIRECT), labels_below(scratch / name)) < 1:
                raise RuntimeError(f"{name}: other labels than the DirectRunner's")
    return rows, memory


def _row(name: str, cost: Cost, used: float, memory: Memory | None) -> list[str]:
    print(f"{name}: first commit after {cost.first:.1f} s, {cost.rate:.1f} images/s", flush=True)
    workers = [str(len(memory.peaks["worker"])), str(memory.largest("worker"))] if memory else ["", ""]
    return [name, f"{used:.0f}", *workers]


def report(images: int, write: bool) -> None:
    """Measure, print, and put the tables into docs/flink.md when `write`."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        rows, memory = measure(photo_folder(Path(folder) / "photos", images), Path(folder))
    cases = table(["", "CPU of all processes, s", "worker processes", "largest worker, MiB"], rows)
    kinds = ["JobManager", "TaskManager", "job server", "worker pool"]
    parts = table(["", *kinds], [["largest, MiB", *(str(memory.largest(kind)) for kind in kinds)]])
    text = (
        f"{images:,} photos ({photo_kind()}), one run each, in this order; the same labels in all.\n\n{cases}\n\n"
        f"The other parts, after these jobs:\n\n{parts}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("flink", text, PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="photos (default: 2000)")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/flink.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.write)


if __name__ == "__main__":
    main()
