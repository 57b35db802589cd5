"""A runner, as far as a worker's control stream goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_api_grpc

PATIENCE = 60  # seconds; a worker needs a few to import what it runs


class Runner(fn_api_grpc.BeamFnControlServicer):
    """Serves one worker, without giving it work, until told to end.

    Attributes:
        endpoint: where, host:port.
        worker_id: of the worker that has connected.
        connected, left: set when it has.
        end: to be set to close the stream.
    """

    def __init__(self) -> None:
        self.worker_id: str | None = None
        self.connected, self.left, self.end = threading.Event(), threading.Event(), threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        fn_api_grpc.add_BeamFnControlServicer_to_server(self, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Control(self, responses: Any, context: Any) -> Iterator[Any]:
        self.worker_id = dict(context.invocation_metadata())["worker_id"]
        threading.Thread(target=self._hear, args=(responses,), daemon=True).start()
        self.connected.set()
        self.end.wait(PATIENCE)
        yield from ()

    def _hear(self, responses: Any) -> None:
        try:
            for _ in responses:
                pass
        except grpc.RpcError:  # it died
            pass
        self.left.set()

    def close(self) -> None:
        self.end.set()
        self._server.stop(None).wait()
