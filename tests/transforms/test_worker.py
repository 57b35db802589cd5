"""A worker process, and the runner and the pool that it ends with."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_api_grpc

PATIENCE = 60  # seconds; the worker needs a few to import Beam

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


class Runner(fn_api_grpc.BeamFnControlServicer):
    """Serves the control stream, until told to end it, to the worker whose id it notes."""

    def __init__(self) -> None:
        self.worker_id: str | None = None
        self.connected, self.end = threading.Event(), threading.Event()

    def Control(self, responses: Any, context: Any) -> Iterator[Any]:
        self.worker_id = dict(context.invocation_metadata())["worker_id"]
        context.add_callback(self.end.set)
        self.connected.set()
        self.end.wait(PATIENCE)
        yield from ()


@pytest.fixture
def runner() -> Iterator[tuple[Runner, str]]:
    found = Runner()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    fn_api_grpc.add_BeamFnControlServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found, f"127.0.0.1:{port}"
    found.end.set()
    server.stop(None).wait()


@pytest.fixture
def worker(tmp_path: Path, runner: tuple[Runner, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), runner[1], "2-1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert runner[0].connected.wait(PATIENCE)
    yield process
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def marks(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_worker_ends_with_its_control_stream_and_withdraws_its_marks(
    tmp_path: Path, runner: tuple[Runner, str], worker: subprocess.Popen[bytes]
) -> None:
    assert runner[0].worker_id == "2-1"
    assert marks(tmp_path) == ["00007-1"]
    runner[0].end.set()
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
