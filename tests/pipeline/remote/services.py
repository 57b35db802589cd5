"""What remote runners consist of, as processes on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from pipeline.remote_jobs import service_at

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0  # seconds for a process to listen, on a busy machine too


@dataclass(frozen=True)
class JobService:
    """A Beam job service.

    Attributes:
        endpoint: host:port.
    """

    endpoint: str

    @property
    def stub(self) -> beam_job_api_pb2_grpc.JobServiceStub:
        return service_at(self.endpoint)

    def jobs(self) -> dict[str, str]:
        """State of each job it knows, by name."""
        jobs = self.stub.GetJobs(beam_job_api_pb2.GetJobsRequest()).job_info
        return {job.job_name: beam_job_api_pb2.JobState.Enum.Name(job.state) for job in jobs}


@contextmanager
def job_service(folder: Path) -> Iterator[JobService]:
    """Beam's local job service: it runs jobs in its own process, and their workers where their environment says."""
    port = folder / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "--port_file", str(port), "--staging_dir", str(folder / "staged")]
    with _process(command, folder / "service.log", os.environ) as process:
        _wait_for(process, port.exists)
        yield JobService(f"localhost:{port.read_text()}")


@contextmanager
def worker_pool(
    folder: Path, environment: Mapping[str, str] = os.environ, python: str = sys.executable
) -> Iterator[str]:
    """Our pool of worker processes, which work in `folder`; yields its address.

    Args:
        environment: of the processes; `PYTHONPATH` gets this source, unless it is empty.
        python: what runs them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = "" if environment.get("PYTHONPATH") == "" else environment.get("PYTHONPATH", "") + os.pathsep + str(ROOT)
    command = [python, "-m", "transforms.worker_pool", "--port", str(port)]
    with _process(command, folder / "pool.log", {**environment, "PYTHONPATH": path}, folder) as process:
        _wait_for(process, lambda: "listening on" in (folder / "pool.log").read_text())
        yield f"localhost:{port}"


@contextmanager
def _process(
    command: list[str], log: Path, environment: Mapping[str, str], folder: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(environment), cwd=folder)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], there: object) -> None:
    assert callable(there)
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, f"exit code {process.poll()}"
        assert time.monotonic() < deadline
        time.sleep(0.05)
