"""What one run of a command costs: time, processor time and memory of all its processes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LOOKS = 0.05  # seconds between looks at the memory of the processes
FAMILY = 5  # looks between searches for new processes, each of which goes through all processes of the machine
LEAVING = 15.0  # seconds that processes left behind have to end by themselves

Progress = list[tuple[int, float]]  # images done, and since when (Unix seconds)


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


class CommandError(RuntimeError):
    """A measured command failed; the message has its exit code and the end of what it said."""


def measure(command: Sequence[str], read_progress: Callable[[], Progress], timeout: float | None = None) -> Cost:
    """Run `command` in the checkout.

    Args:
        read_progress: what it has done and when, read once it has ended; empty when that is not known.
        timeout: seconds after which it is killed.

    Raises:
        CommandError: it failed, or was killed.
    """
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
    family = _Family(process.pid)
    family.start()
    killer = threading.Timer(timeout or 0, family.kill)
    if timeout is not None:
        killer.start()
    _, status, usage = os.wait4(process.pid, 0)  # its usage includes that of the children it has waited for
    seconds = time.perf_counter() - began
    killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    family.stop()
    drain.join(timeout=1)
    if process.returncode:
        said = "".join(complaints[-40:])
        raise CommandError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    progress = read_progress()
    return Cost(
        seconds=seconds,
        cpu_seconds=max(usage.ru_utime + usage.ru_stime, family.cpu_seconds),
        first=progress[0][1] - began_at if progress else float("nan"),
        rate=steady_rate(progress),
        largest_bytes=family.largest_bytes,
        tree_bytes=family.peak_bytes,
    )


def steady_rate(progress: Progress) -> float:
    """Images a second between the first and the last tenth; not a number when there is too little in between."""
    total = progress[-1][0] if progress else 0
    middle = [pair for pair in progress if 0.1 * total <= pair[0] <= 0.9 * total]
    if len(middle) < 2:
        return float("nan")
    return (middle[-1][0] - middle[0][0]) / (middle[-1][1] - middle[0][1])


class _Family(threading.Thread):
    """Watches a process and its descendants, those too that its end makes orphans."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = self.largest_bytes = 0
        self._members = {pid: psutil.Process(pid)}
        self._root = self._members[pid]
        self._used: dict[int, float] = {}
        self._stopped = threading.Event()

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all that were seen, up to the last look at each."""
        return sum(self._used.values())

    def run(self) -> None:
        looks = 0
        while not self._stopped.wait(LOOKS):
            if looks % FAMILY == 0:
                with contextlib.suppress(psutil.Error):
                    for child in self._root.children(recursive=True):
                        self._members.setdefault(child.pid, child)
            looks += 1
            self.peak_bytes = max(self.peak_bytes, sum(map(self._look, self._members.values())))

    def _look(self, process: psutil.Process) -> int:
        """Resident bytes of one process; 0 when it is gone."""
        try:
            times = process.cpu_times()
            self._used[process.pid] = times.user + times.system
            resident = int(process.memory_info().rss)
        except psutil.Error:
            return 0
        self.largest_bytes = max(self.largest_bytes, resident, _peak(process.pid))
        return resident

    def stop(self) -> None:
        """Watch no more; whoever is left behind gets time to end, and is killed after it."""
        self._stopped.set()
        self.join()
        _, left = psutil.wait_procs([p for p in self._members.values() if p != self._root], timeout=LEAVING)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2)

    def kill(self) -> None:
        """End them all, the first one first: it would start others anew."""
        for process in list(self._members.values()):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _peak(pid: int) -> int:
    """The most resident bytes that a process has had; 0 where the system does not tell.

    `getrusage` would tell as much of a child whose parent had more before it became another program.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
