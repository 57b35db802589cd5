"""A child process that does not heed: it is ended with all it has started, and never waited for inside a handler."""

from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
import pytest

from pipeline.process import TAIL_BYTES, Child

STUBBORN = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("a line of the log", flush=True)
time.sleep(600)
"""

TELLING = """
import json, os, sys
events = int(sys.argv[1])
line = json.dumps({"event": "say", "text": "x" * 20_000}).encode() + b"\\n"
os.write(events, line + line[:15_000])
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A child that heeds nothing, and has started a process of its own."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "run.log"
    found = Child("stubborn", [], str(log))
    while not log.read_bytes():
        assert found.poll() is None
        time.sleep(0.01)
    yield found
    found.kill()


def test_a_child_that_does_not_heed_is_killed_with_all_it_has_started(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = [psutil.Process(child._process.pid), *psutil.Process(child._process.pid).children()]
    assert len(family) == 2
    child.stop(patience=0.1)
    _, alive = psutil.wait_procs(family, 5)
    assert not alive
    assert child.poll() == -signal.SIGKILL
    assert child.log_tail() == "a line of the log"
    signalled = []
    monkeypatch.setattr(os, "killpg", lambda *arguments: signalled.append(arguments))
    child.kill()
    child.stop()
    assert not signalled  # nothing is left to end, and its number may be another's by now


@pytest.mark.timeout(30)
def test_a_handler_may_kill_while_the_child_is_waited_for(child: Child) -> None:
    def second_ctrl_c(number: int, frame: FrameType | None) -> None:
        child.kill()

    before = signal.signal(signal.SIGUSR1, second_ctrl_c)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert child._process.wait() == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.timeout(30)
def test_a_child_that_is_killed_while_it_tells_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has told before counts; half an event is none."""
    (tmp_path / "telling.py").write_text(TELLING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    telling = Child("telling", [], str(tmp_path / "run.log"))
    telling.wait(20)
    assert telling.poll() == -signal.SIGKILL
    assert telling.events() == [{"event": "say", "text": "x" * 20_000}]


def test_only_the_end_of_a_long_log_is_read(child: Child) -> None:
    with open(child.log, "ab") as log:
        log.truncate(200 << 20)
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + b"".join(b"line %d\n" % number for number in range(25)))
    tracemalloc.start()
    try:
        tail = child.log_tail()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tail.splitlines() == [f"line {number}" for number in range(5, 25)]
    assert peak < 20 * TAIL_BYTES
