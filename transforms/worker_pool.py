"""Starts a Python worker process whenever a runner asks for one: Beam's EXTERNAL environment, for Flink and others.

    python -m transforms.worker_pool --port 50000

It takes the place of `apache_beam.runners.worker.worker_pool_main`, which as of Beam 2.77 listens on every interface,
and runs what it is sent as Python source; ends the worker of one Flink TaskManager when another is done, since each of
them calls its own `1-1`; and reads nothing of what its workers print, so that they stop when a pipe is full.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_api_grpc
from apache_beam.utils.thread_pool_executor import UnboundedThreadPoolExecutor

from transforms.programs import program
from transforms.worker import CONNECTED

LOOPBACK = "127.0.0.1"
STOP_PATIENCE = 15.0  # seconds for workers to end in order; they allow themselves 10
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", "PYTHONWARNINGS": "ignore"}

_LOGGER = logging.getLogger("hublabel.worker_pool")

Start = Callable[[str, str], "subprocess.Popen[bytes]"]


def start_worker(control_endpoint: str, worker_id: str) -> subprocess.Popen[bytes]:
    """A worker process: ends when its standard input does, writes `worker.CONNECTED` to its standard output."""
    command = program("transforms.worker", control_endpoint, worker_id)
    environment = {**QUIET, **os.environ}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def hang_up(control_endpoint: str, worker_id: str) -> None:
    """Connect to a runner in place of a worker that died before it could, and leave.

    Else the runner would wait for that worker for ever; a worker that leaves is an error that it may try again after.
    """
    with grpc.insecure_channel(control_endpoint) as channel:
        control = fn_api_grpc.BeamFnControlStub(channel)
        try:
            list(control.Control(iter(()), metadata=[("worker_id", worker_id)], timeout=STOP_PATIENCE))
        except grpc.RpcError as error:
            _LOGGER.info("the runner of worker %s has gone: %s", worker_id, error.code())


class WorkerPool(fn_api_grpc.BeamFnExternalWorkerPoolServicer):
    """The worker processes of any number of runners.

    Args:
        start: starts a worker for a control endpoint (`host:port`) and an id.
    """

    def __init__(self, start: Start = start_worker) -> None:
        self._start = start
        self._workers: dict[subprocess.Popen[bytes], threading.Thread] = {}  # and who waits for them to end

    def StartWorker(self, request: fn_api.StartWorkerRequest, context: object) -> fn_api.StartWorkerResponse:  # noqa: ARG002
        try:
            worker = self._start(request.control_endpoint.url, request.worker_id)
        except OSError as error:
            return fn_api.StartWorkerResponse(error=f"no worker process can be started: {error}")
        known = (worker, request.control_endpoint.url, request.worker_id)
        _LOGGER.info("worker %d started, as %s of %s", worker.pid, request.worker_id, request.control_endpoint.url)
        self._workers[worker] = threading.Thread(target=self._reap, args=known, daemon=True)
        self._workers[worker].start()
        return fn_api.StartWorkerResponse()

    def _reap(self, worker: subprocess.Popen[bytes], control_endpoint: str, worker_id: str) -> None:
        assert worker.stdout is not None
        with worker.stdout:
            connected = worker.stdout.read() == CONNECTED
        code = worker.wait()
        _LOGGER.log(logging.WARNING if code else logging.INFO, "worker %d ended with %d", worker.pid, code)
        if not connected:
            hang_up(control_endpoint, worker_id)
        del self._workers[worker]

    def StopWorker(self, request: fn_api.StopWorkerRequest, context: object) -> fn_api.StopWorkerResponse:  # noqa: ARG002
        """Nothing is left to do: the runner has closed the worker's control stream, and with that the worker ends.

        The id does not tell whose worker is meant, when two runners share a pool.
        """
        return fn_api.StopWorkerResponse()

    def join(self, patience: float) -> None:
        """Wait for the workers there are to end, `patience` seconds for each."""
        for thread in list(self._workers.values()):
            thread.join(patience)

    def stop(self, patience: float = STOP_PATIENCE) -> None:
        """End all workers: in order, or after `patience` seconds at once."""
        workers = list(self._workers)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            try:
                worker.wait(patience)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def serve(pool: WorkerPool, host: str, port: int) -> tuple[grpc.Server, int]:
    """Let runners call `pool` at `host:port`; port 0 takes a free one. Returns the server and its port.

    Raises:
        OSError: the address cannot be had.
    """
    # Two servers on one port, as gRPC allows, would get the calls by turns.
    server = grpc.server(UnboundedThreadPoolExecutor(), options=[("grpc.so_reuseport", 0)])
    fn_api_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise OSError(f"{host}:{port} cannot be listened on") from None
    server.start()
    return server, bound


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m transforms.worker_pool", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--port", type=int, default=50000, help="where to listen (default: 50000)")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help=f"the address to listen on (default: {LOOPBACK}); whoever reaches it can run programs here",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO, force=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pool = WorkerPool()
    try:
        server, port = serve(pool, arguments.host, arguments.port)
    except OSError as error:
        print(f"worker pool: {error}", file=sys.stderr)
        return 1
    _LOGGER.info("listening on %s:%d", arguments.host, port)
    stop.wait()
    server.stop(None)
    pool.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
