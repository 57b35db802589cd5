"""The child of a run is started before the run is planned, and ends with whatever becomes of the plan."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from pipeline.children import Children
from pipeline.lock import output_lock
from pipeline.signals import stop_signals
from transforms.records import Shard
from transforms.storage import open_storage

# Says which job it was given, then waits for the end of its input as `pipeline.child` does.
OBEDIENT = """
import os, sys
print("started", flush=True)
line = sys.stdin.readline()
print("job", line.strip(), flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.timeout(60)
def test_the_next_child_waits_for_its_job_and_is_ended_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "obedient.py").write_text(OBEDIENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("pipeline.children.CHILD", "obedient")
    storage = open_storage(str(tmp_path / "out"))
    storage.prepare()
    log = tmp_path / "out" / "run.log"

    def wait_for(lines: list[str]) -> None:
        while not log.exists() or log.read_text().splitlines() != lines:
            time.sleep(0.01)

    def processes() -> list[psutil.Process]:
        return [process for process in psutil.Process().children() if "obedient" in process.cmdline()]

    with output_lock(storage.root, print) as lock, stop_signals(lock.check) as signals:
        children = Children(storage, lock, signals)
        children.start()
        wait_for(["started"])
        (early,) = processes()
        with children.child([Shard(0, 3, 8)]):
            assert processes() == [early], "the child that was started ahead takes the job"
            wait_for(["started", "job [[0, 3, 8, 0, null]]"])
        assert not early.is_running()
        children.start()
        wait_for(["started", "job [[0, 3, 8, 0, null]]", "started"])
        (idle,) = processes()
        children.close()
        assert not idle.is_running()
        children.close()  # nothing is left to end
