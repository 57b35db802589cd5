"""Programs that end with the process that has started them; real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PATIENCE = 60.0  # seconds, on a busy machine
PROGRAM = "import time; print('started', flush=True); time.sleep(600)"
PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-m", "pipeline.end_with_parent", sys.argv[1] or str(os.getpid()), *sys.argv[2:]])
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


def started(parent: str, *command: str) -> subprocess.Popen[str]:
    """A process that has started `command` as the child of the process `parent`, or if empty, its own."""
    return subprocess.Popen([sys.executable, "-c", PARENT, parent, *command], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_ends_with_its_parent(number: int) -> None:
    with started("", sys.executable, "-c", PROGRAM) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parent.send_signal(number)
        assert parent.wait(PATIENCE) == -number
        # The program has the other end of the pipe: it is at its end when the program is.
        assert parent.communicate(timeout=PATIENCE)[0] == ""


def test_a_program_whose_parent_went_before_does_not_start() -> None:
    with started(str(os.getpid()), "echo", "started") as parent:  # not who starts it
        assert parent.communicate(timeout=PATIENCE)[0] == ""


def test_a_program_gets_its_arguments() -> None:
    with started("", "echo", "-n", "a b", "c") as parent:
        assert parent.communicate(timeout=PATIENCE)[0] == "a b c"
