"""The second half of `deploy/check`: workers of the image's environment label the sample photos.

`python -m tests.deploy.check WORK BOOT`: WORK holds the environment `venv`; BOOT is Beam's entry point, or empty.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from tests.pipeline.remote.services import ROOT, job_service, worker_pool
from tests.pipeline.running import read_rows


class Containers(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts Beam's entry point as a runner would start the image's container.

    Args:
        boot: its path.
        work: where it may write; `venv` there is the image's environment.
    """

    def __init__(self, boot: str, work: Path) -> None:
        self._boot, self._work = boot, work
        image = {"PATH": f"{work}/venv/bin:{os.environ['PATH']}", "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}
        self._environment = {"HOME": str(work), "TF_CPP_MIN_LOG_LEVEL": "2", "PIP_NO_CACHE_DIR": "1", **image}
        self.started: list[subprocess.Popen[bytes]] = []

    def StartWorker(self, request: Any, context: Any) -> Any:
        flags = [
            f"--id={request.worker_id}",
            f"--semi_persist_dir={self._work}/persistent",
            *(f"--{name}_endpoint={getattr(request, f'{name}_endpoint').url}" for name in ("logging", "artifact")),
            *(f"--{name}_endpoint={getattr(request, f'{name}_endpoint').url}" for name in ("provision", "control")),
        ]
        with (self._work / "boot.log").open("ab") as log:
            command = [self._boot, *flags]
            started = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, cwd=self._work)
        self.started.append(started)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        return beam_fn_api_pb2.StopWorkerResponse()


@contextmanager
def containers(boot: str, work: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a pool of containers, and the options that go with it: workers install the staged source."""
    pool = Containers(boot, work)
    with ThreadPoolExecutor() as threads:
        server = grpc.server(threads)
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", {"setup_file": str(ROOT / "setup.py")}
        finally:
            server.stop(None)
            for process in pool.started:
                process.terminate()
                process.wait(30)


@contextmanager
def processes(work: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of our own pool in the image's environment."""
    (work / "pool").mkdir()
    with worker_pool(work / "pool", {**os.environ, "PYTHONPATH": ""}, str(work / "venv/bin/python")) as address:
        yield address, {}


def label(output: Path, *settings: str) -> list[dict[str, Any]]:
    """The rows of the quickstart with these settings, by the command of this environment."""
    overrides = [part for setting in (f"output.path={output}", *settings) for part in ("--set", setting)]
    command = [sys.executable, "-m", "pipeline.cli", "run", "configs/quickstart.yaml", *overrides]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return read_rows(output)


def main(folder: str, boot: str) -> int:
    work = Path(folder)
    shutil.rmtree(work / "service", ignore_errors=True)
    (work / "service").mkdir()
    workers = containers(boot, work) if boot else processes(work)
    with job_service(work / "service") as service, workers as (address, further):
        options = {
            "job_endpoint": service.endpoint,
            "environment_type": "EXTERNAL",
            "environment_config": address,
            **further,
        }
        runner = ["runner.name=PortableRunner", f"runner.options={json.dumps(options)}"]
        found = label(work / "out", *runner, f"model.staging={work}/models")
    if boot:
        (origin,) = work.glob("venv/lib/*/site-packages/hublabel-*.dist-info/direct_url.json")
        assert "staged/workflow.tar.gz" in origin.read_text(), "the workers did not install the staged source package"
    expected = label(work / "direct")
    assert found == expected, f"{found}\n{expected}"
    print(f"{len(found)} rows by workers of the image's environment{', started by Beam' if boot else ''}: as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
