"""A child process that does not heed: it is ended with all it has started, and never waited for inside a handler."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
import pytest

from pipeline.process import Child

STUBBORN = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("a line of the log", flush=True)
time.sleep(600)
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
