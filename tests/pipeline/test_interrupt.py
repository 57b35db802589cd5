"""Runs that are stopped or killed, as processes of their own: what ends, how soon, and what is said."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.witness import Witness
from tests.pictures import COLOURS, colour_of, picture_bytes
from tests.pipeline.running import parts_of

STOP_SECONDS = 5.0  # within which a stopped run ends
ORPHAN_SECONDS = 10.0  # within which an orphaned child ends, on a busy machine too
PICTURES = 800
SLOW_DISK = 1.0  # seconds that reading a picture takes: some twenty shards of four a second
ROOT = Path(__file__).resolve().parents[2]


class Running:
    """One `hublabel run` and its child.

    Args:
        config: the config file.
        witness: slows reading down.
    """

    def __init__(self, config: Path, witness: Witness) -> None:
        self.config = config
        self.parent = psutil.Popen(
            [sys.executable, "-m", "pipeline.cli", "run", str(config)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=witness.environment(), cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    def wait_for(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait until `condition` holds; the run must not end before."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.parent.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"exit code {self.parent.poll()}: {self.parent.communicate(timeout=10)}")
            time.sleep(0.01)

    def child(self) -> psutil.Process | None:
        """The process that runs the pipeline, once it is there."""
        found = [process for process in self.parent.children() if "pipeline.child" in process.cmdline()]
        return found[0] if found else None

    def working_child(self) -> psutil.Process:
        self.wait_for(self.child)
        child = self.child()
        assert child is not None
        return child

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error of the parent, which ends within five seconds."""
        _, stderr = self.parent.communicate(timeout=STOP_SECONDS)
        return self.parent.returncode, stderr.decode()

    def kill(self) -> None:
        """End what is left of it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*self.parent.children(recursive=True), self.parent]:
                process.kill()
        self.parent.communicate()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "photos", tmp_path / "witness.log", SLOW_DISK)


@pytest.fixture
def start(tmp_path: Path, colour_config: Path, witness: Witness) -> Iterator[Callable[[], Running]]:
    """Starts a run over 800 pictures that takes a while."""
    (tmp_path / "photos").mkdir(exist_ok=True)
    for number in range(PICTURES):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    started = []

    def begin() -> Running:
        started.append(Running(colour_config, witness))
        return started[-1]

    yield begin
    for running in started:
        running.kill()


def committed_rows(output: Path) -> list[int]:
    """Row numbers of the parts; every row is the label of its own picture."""
    rows = [row for part in parts_of(output) for row in pq.ParquetFile(part).read().to_pylist()]
    assert all(row["label"] == COLOURS[row["row"] % 3] for row in rows)
    return sorted(row["row"] for row in rows)


def assert_ends(process: psutil.Process) -> None:
    _, alive = psutil.wait_procs([process], ORPHAN_SECONDS)
    assert not alive


def marks(output: Path) -> list[Path]:
    """Marks of attempts that would count as deaths."""
    return [path for path in output.glob("attempts/*/*") if not path.name.startswith(".tmp-")]


def test_ctrl_c_keeps_what_is_committed_and_tells_how_to_go_on(start: Callable[[], Running], output: Path) -> None:
    running = start()
    running.wait_for(lambda: parts_of(output))
    child = running.working_child()
    running.parent.send_signal(signal.SIGINT)
    code, stderr = running.ended()
    assert code == 130
    assert "stopped by SIGINT; what is committed stays. Go on with:" in stderr
    assert stderr.splitlines()[-1].strip() == shlex.join(["hublabel", "run", str(running.config)])
    assert "Traceback" not in stderr
    assert_ends(child)
    done = len(committed_rows(output))
    assert 4 <= done < PICTURES
    assert f"\n{done} of {PICTURES} images are done\n" in stderr
    assert marks(output) == []
    assert not (output / "_SUCCESS").exists()


def test_sigterm_ends_a_run_even_when_its_child_does_not_heed(start: Callable[[], Running], output: Path) -> None:
    running = start()
    running.wait_for(lambda: parts_of(output))
    child = running.working_child()
    child.send_signal(signal.SIGSTOP)  # as one that hangs in native code
    running.parent.send_signal(signal.SIGTERM)
    code, stderr = running.ended()
    assert code == 143
    assert "stopped by SIGTERM; what is committed stays. Go on with:" in stderr
    assert_ends(child)


def test_ctrl_c_while_tensorflow_starts(start: Callable[[], Running], output: Path) -> None:
    running = start()
    child = running.working_child()
    running.parent.send_signal(signal.SIGINT)
    code, stderr = running.ended()
    assert code == 130
    assert "Go on with:" in stderr
    assert_ends(child)
    assert committed_rows(output) == []


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, colour_config: Path, witness: Witness, output: Path) -> None:
    os.mkfifo(tmp_path / "photos")  # an input that never answers: planning cannot heed the first
    running = Running(colour_config, witness)
    try:
        running.wait_for((output / "plan.partial").exists)
        began = time.monotonic()
        while running.parent.poll() is None and time.monotonic() < began + STOP_SECONDS:
            running.parent.send_signal(signal.SIGINT)
            time.sleep(0.05)
        code, stderr = running.ended()
    finally:
        running.kill()
    assert code == 130
    assert "Traceback" not in stderr
    assert not (output / "run.yaml").exists()


def test_an_orphan_ends_and_its_lock_is_not_in_the_way(start: Callable[[], Running], output: Path) -> None:
    running = start()
    running.wait_for(lambda: parts_of(output))
    child = running.working_child()

    second = start()
    code, stderr = second.ended()
    assert code == 1
    assert f"{output}: process {running.parent.pid} on" in stderr
    assert "is at work on this output; wait for it, or stop it" in stderr
    assert running.parent.poll() is None

    running.parent.kill()
    third = start()  # at once: it waits for the orphan, and then takes the lock
    assert_ends(child)
    assert marks(output) == []
    third.wait_for(third.child)
    third.parent.send_signal(signal.SIGINT)
    code, stderr = third.ended()
    assert code == 130
    assert f"going on: {len(committed_rows(output))} of {PICTURES} images are done" in stderr


def test_an_orphan_ends_while_tensorflow_starts(start: Callable[[], Running]) -> None:
    running = start()
    child = running.working_child()
    running.parent.kill()
    assert_ends(child)
