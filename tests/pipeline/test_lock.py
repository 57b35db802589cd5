import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import lock
from pipeline.errors import HublabelError
from pipeline.lock import NAME, OutputBusyError, output_lock

HOLD = """
import sys
from pipeline.lock import output_lock
with output_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
# A parent that dies and leaves behind a child which holds the inherited lock until its input closes.
LEAVE_CHILD = """
import os, subprocess, sys
from pipeline.lock import output_lock
with output_lock(sys.argv[1]) as lock:
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=lock.descriptors)
    print("held", flush=True)
    os.kill(os.getpid(), 9)
"""


def start(program: str, root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_is_free_again_afterwards_and_names_its_holder(tmp_path: Path) -> None:
    root = tmp_path / "new" / "out"
    for _ in range(2):
        with output_lock(str(root)):
            assert json.loads((root / NAME).read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_lock(str(tmp_path)):
        _ = 1 / 0
    with output_lock(str(tmp_path)):
        pass


def test_a_second_run_is_refused_at_once_and_told_who_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock.time, "sleep", None)  # it must not wait for a holder that lives
    with start(HOLD, tmp_path) as holder:
        message = f"{tmp_path}: process {holder.pid} on {socket.gethostname()} is at work on this output"
        with pytest.raises(OutputBusyError) as caught, output_lock(str(tmp_path)):
            pass
        assert message in str(caught.value)
        assert isinstance(caught.value, HublabelError)
        assert caught.value.exit_code == 1
        assert holder.poll() is None
    with output_lock(str(tmp_path)):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as holder:
        holder.kill()
    with output_lock(str(tmp_path)) as held:
        assert [os.get_inheritable(descriptor) for descriptor in held.descriptors] == [False]


def test_the_child_of_a_killed_parent_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(LEAVE_CHILD, tmp_path) as parent:
        parent.wait()
        waited = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            assert parent.stdin is not None
            parent.stdin.close()  # the child ends
            os.sched_yield()

        monkeypatch.setattr(lock.time, "sleep", sleep)
        with output_lock(str(tmp_path)):
            assert waited


def test_a_child_that_does_not_end_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    with start(LEAVE_CHILD, tmp_path) as parent:
        parent.wait()
        with pytest.raises(OutputBusyError, match=f"process {parent.pid} on"), output_lock(str(tmp_path)):
            pass
        assert now[0] == pytest.approx(lock.PATIENCE, abs=0.2)


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"pid": "x", "host": "y"}', "[1]", "null"])
def test_a_lock_file_without_a_holder_in_it_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with output_lock(str(tmp_path)):
        pass


def test_a_holder_on_another_host_is_taken_to_be_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock.time, "sleep", None)
    with start(HOLD, tmp_path):
        (tmp_path / NAME).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
        with pytest.raises(OutputBusyError, match="process 1 on elsewhere"), output_lock(str(tmp_path)):
            pass


def test_an_output_that_cannot_be_locked_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(HublabelError, match="cannot be written to"), output_lock(str(tmp_path)):
        pass
