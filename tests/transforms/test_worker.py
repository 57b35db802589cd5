"""A worker process, and the runner and the pool that it ends with."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transforms.control import PATIENCE, Runner
from transforms.worker import CONNECTED

# A worker in the middle of a shard.
PROGRAM = """
import sys
from transforms import worker
from transforms.attempts import attempt
from transforms.records import Shard
from transforms.storage import open_storage

begun = attempt(open_storage(sys.argv[1]), Shard(0, 7, 16))
begun.__enter__()
worker.main(*sys.argv[2:])
"""


@pytest.fixture
def runner() -> Iterator[Runner]:
    found = Runner()
    yield found
    found.close()


@pytest.fixture
def worker(tmp_path: Path, runner: Runner) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), runner.endpoint, "2-1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert runner.connected.wait(PATIENCE)
    with process:
        yield process
        process.kill()


def marks(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_worker_ends_with_its_control_stream_and_withdraws_its_marks(
    tmp_path: Path, runner: Runner, worker: subprocess.Popen[bytes]
) -> None:
    assert runner.worker_id == "2-1"
    assert worker.stdout is not None
    assert worker.stdout.read() == CONNECTED
    assert marks(tmp_path) == ["00007-1"]
    runner.end.set()
    assert worker.wait(PATIENCE) == 0
    assert marks(tmp_path) == []


def test_a_worker_ends_with_its_pool_and_withdraws_its_marks(tmp_path: Path, worker: subprocess.Popen[bytes]) -> None:
    assert marks(tmp_path) == ["00007-1"]
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(PATIENCE) == 0
    assert marks(tmp_path) == []


def test_a_killed_worker_leaves_its_mark(tmp_path: Path, worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    assert worker.wait(PATIENCE) == -9
    assert marks(tmp_path) == ["00007-1"]
