"""What running a command tells of its cost."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import measured
from benchmarks.measured import CommandError, measure


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_command_is_measured_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "FAMILY", 1)
    child = "x = bytearray(b'x') * 10**8; import time; time.sleep(2)"
    began = time.time()
    cost = measure(python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"), list)
    assert cost.seconds > 2
    assert cost.largest_bytes > 10**8  # of a large process that forks, its own size: Linux keeps it across exec
    assert cost.tree_bytes > 10**8
    assert 0 < cost.cpu_seconds <= time.time() - began
    assert str(cost.first) == str(cost.rate) == "nan"


def test_progress_counts_from_the_start_of_the_command() -> None:
    began = time.time()
    cost = measure(python("pass"), lambda: [(1, began + 10.0), (10, began + 11.0)])
    assert 9 < cost.first <= 10


def test_a_failed_command_says_why() -> None:
    with pytest.raises(CommandError, match=r"ended with 3:\nno model"):
        measure(python("import sys; print('no model', file=sys.stderr); sys.exit(3)"), list)


def test_a_hung_command_is_killed() -> None:
    with pytest.raises(CommandError, match=r"ended with -9"):
        measure(python("import time; time.sleep(100)"), list, timeout=0.5)


def test_nobody_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "FAMILY", 1)
    monkeypatch.setattr(measured, "LEAVING", 0.1)
    left, pid = [sys.executable, "-c", "import time; time.sleep(100)"], tmp_path / "pid"
    start = f"import subprocess, time; left = subprocess.Popen({left}); time.sleep(2)"
    measure(python(f"{start}; open({str(pid)!r}, 'w').write(str(left.pid))"), list)
    assert not psutil.pid_exists(int(pid.read_text())) or psutil.Process(int(pid.read_text())).status() == "zombie"
