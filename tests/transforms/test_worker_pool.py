"""The pool that starts worker processes for runners."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_api_grpc
from apache_beam.portability.api import endpoints_pb2

from tests.transforms.control import PATIENCE, Runner
from transforms.worker_pool import WorkerPool, serve

CONNECTS = "import sys; print('connected', flush=True); "
ENDS_WITH_US = CONNECTS + "sys.stdin.read(); sys.exit(3)"
HANGS = CONNECTS + "import time; time.sleep(600)"
DIES = "raise SystemExit(4)"


class Workers:
    """Starts processes that know nothing of Beam, and remembers them with what they were started for."""

    def __init__(self, program: str = ENDS_WITH_US) -> None:
        self.program = program
        self.started: list[tuple[str, str, subprocess.Popen[bytes]]] = []

    def __call__(self, endpoint: str, worker_id: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.started.append((endpoint, worker_id, process))
        return process

    def codes(self) -> list[int | None]:
        return [process.poll() for _, _, process in self.started]


@pytest.fixture
def workers() -> Iterator[Workers]:
    found = Workers()
    yield found
    for _, _, process in found.started:
        with process:
            process.kill()


@pytest.fixture
def runner() -> Iterator[Runner]:
    found = Runner()
    yield found
    found.close()


def request(endpoint: str = "127.0.0.1:1") -> fn_api.StartWorkerRequest:
    """A runner at `endpoint` asks for its first worker."""
    control = endpoints_pb2.ApiServiceDescriptor(url=endpoint)
    return fn_api.StartWorkerRequest(worker_id="1-1", control_endpoint=control)


def test_each_runner_keeps_its_worker_though_another_stops_one_of_the_same_id(workers: Workers) -> None:
    pool = WorkerPool(workers)
    server, port = serve(pool, "127.0.0.1", 0)
    stub = fn_api_grpc.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    for endpoint in ("127.0.0.1:11", "127.0.0.1:22"):
        assert stub.StartWorker(request(endpoint), timeout=20).error == ""
    assert stub.StopWorker(fn_api.StopWorkerRequest(worker_id="1-1"), timeout=20).error == ""
    assert [(endpoint, name) for endpoint, name, _ in workers.started] == [
        ("127.0.0.1:11", "1-1"),
        ("127.0.0.1:22", "1-1"),
    ]
    assert workers.codes() == [None, None]
    server.stop(None)
    pool.stop()
    assert workers.codes() == [3, 3]


def test_a_worker_that_does_not_end_in_order_is_killed(workers: Workers) -> None:
    workers.program = HANGS
    pool = WorkerPool(workers)
    pool.StartWorker(request(), None)
    pool.stop(patience=0.1)
    assert workers.codes() == [-9]


def test_a_runner_does_not_wait_for_a_worker_that_died_before_it_connected(workers: Workers, runner: Runner) -> None:
    workers.program = DIES
    WorkerPool(workers).StartWorker(request(runner.endpoint), None)
    assert runner.left.wait(PATIENCE)
    assert runner.worker_id == "1-1"
    assert workers.codes() == [4]


def test_nobody_else_connects_for_a_worker_that_did(workers: Workers, runner: Runner) -> None:
    workers.program = CONNECTS
    pool = WorkerPool(workers)
    pool.StartWorker(request(runner.endpoint), None)
    pool.join(PATIENCE)
    assert workers.codes() == [0]
    assert not runner.connected.is_set()


def test_a_runner_is_told_that_no_worker_can_be_started() -> None:
    def start_worker(endpoint: str, worker_id: str) -> subprocess.Popen[bytes]:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    response = WorkerPool(start_worker).StartWorker(request(), None)
    assert response.error == "no worker process can be started: [Errno 11] Resource temporarily unavailable"


def test_two_pools_do_not_share_a_port() -> None:
    server, port = serve(WorkerPool(), "127.0.0.1", 0)
    with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be listened on"):
        serve(WorkerPool(), "127.0.0.1", port)
    server.stop(None)


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "transforms.worker_pool", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"worker pool: 127.0.0.1:{port} cannot be listened on" in done.stderr
