"""A Flink session cluster, a Python worker pool and Beam's job server on this machine, for as long as a command runs.

    python deploy/flink/session.py -- hublabel run configs/flink.yaml

Every part is a process of its own, as on machines of their own: one JobManager, two TaskManagers, the pool that starts
Python workers for them, and the job server that `runner.options.job_endpoint` names. All listen on this machine only.
`deploy/flink/fetch` gets the jars; `java` must be on the PATH.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
JARS = Path(os.environ.get("HUBLABEL_FLINK", "~/.cache/hublabel/flink")).expanduser()
HOST = "127.0.0.1"
TASKMANAGERS = 2
PR_SET_PDEATHSIG = 1  # prctl(2)
START_PATIENCE = 180.0  # seconds for a part to answer
STOP_PATIENCE = 20.0  # seconds for a part to end in order
# What Flink's own start scripts open to it on Java 17, and what makes Java start fast and stay small.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
JAVA += [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.text"),
        *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
        *("java.util.concurrent.locks", "sun.nio.ch", "sun.net.util"),
    )
]


class SessionError(RuntimeError):
    """A part of the session did not start; the message says which, and where its log is."""


@dataclass(frozen=True)
class Ports:
    """Where the parts listen. The first three are those of configs/flink.yaml."""

    rest: int = 8081
    jobs: int = 8099
    workers: int = 50000
    artifacts: int = 8098
    expansion: int = 8097
    rpc: int = 6123
    blobs: int = 6124

    @classmethod
    def free(cls) -> Ports:
        """Seven ports that nobody listens on."""
        sockets = [socket.create_server((HOST, 0)) for _ in range(7)]
        numbers = [found.getsockname()[1] for found in sockets]
        for found in sockets:
            found.close()
        return cls(*numbers)

    def check(self) -> None:
        """Raises SessionError when somebody listens on one of them, such as another session."""
        for name, port in vars(self).items():
            try:
                socket.create_server((HOST, port)).close()
            except OSError as error:
                raise SessionError(f"port {port}, for {name}, cannot be had: {error.strerror or error}") from None


@dataclass
class Session:
    """The parts of a session, as processes; a context manager that starts them and ends them.

    Attributes:
        folder: for configuration, logs and temporary files.
        jars: what `deploy/flink/fetch` made.
        ports: where to listen.
        environment: further variables of the worker pool and its workers.
        settings: further lines of Flink's configuration.
        jobmanager, pool, jobserver: processes.
        taskmanagers: processes, those that `complete` has seen alive.
    """

    folder: Path
    jars: Path = JARS
    ports: Ports = field(default_factory=Ports)
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    taskmanagers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Session:
        self._parts: dict[subprocess.Popen[bytes], str] = {}  # and the names of their logs
        self._started = 0
        self.ports.check()
        self._configure()
        try:
            self.jobmanager = self._flink("jobmanager", "entrypoint.StandaloneSessionClusterEntrypoint", "JM")
            self.pool = self._worker_pool()
            self.jobserver = self._job_server()
            self.complete()
            self._wait([self.pool], lambda: _answers(self.ports.workers))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those of all parts that are alive."""
        return [process for process in self._parts if process.poll() is None]

    def ask(self, path: str) -> Any:
        """What Flink's REST interface answers to `GET /path`."""
        with urllib.request.urlopen(f"http://{HOST}:{self.ports.rest}/{path}", timeout=10) as answer:
            return json.load(answer)

    def complete(self) -> None:
        """See that there are two TaskManagers and a job server, as whatever runs a cluster does when one has died."""
        self.taskmanagers = [process for process in self.taskmanagers if process.poll() is None]
        while len(self.taskmanagers) < TASKMANAGERS:
            self._started += 1
            name = f"taskmanager-{self._started}"
            self.taskmanagers.append(self._flink(name, "taskexecutor.TaskManagerRunner", "TM"))
        registered = [self.jobmanager, *self.taskmanagers]
        self._wait(registered, lambda: len(self.ask("taskmanagers")["taskmanagers"]) == TASKMANAGERS)
        if self.jobserver.poll() is not None:
            self.jobserver = self._job_server()
        self._wait([self.jobserver], lambda: _answers(self.ports.jobs))

    # The parts.

    def _configure(self) -> None:
        shutil.copytree(HERE / "conf", self.folder / "conf")
        (self.folder / "temporary").mkdir()
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": self.ports.rpc,
            "jobmanager.bind-host": HOST,
            "blob.server.port": f'"{self.ports.blobs}"',
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.ports.rest,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "io.tmp.dirs": json.dumps(str(self.folder / "temporary")),
            **self.settings,
        }
        with open(self.folder / "conf" / "config.yaml", "a") as file:
            file.writelines(f"{name}: {value}\n" for name, value in settings.items())

    def _flink(self, name: str, main: str, kind: str) -> subprocess.Popen[bytes]:
        """A process of Flink's, with the memory that its configuration comes to."""
        conf = str(self.folder / "conf")
        java, arguments = self._resources(kind, conf)
        logging = f"-Dlog4j.configurationFile={conf}/log4j2.properties"
        command = [*JAVA, *java, logging, "-cp", f"{self.jars}/lib/*", f"org.apache.flink.runtime.{main}"]
        return self._start(name, [*command, "--configDir", conf, *arguments])

    def _resources(self, kind: str, conf: str) -> tuple[list[str], list[str]]:
        """Arguments for Java and for Flink, as Flink's own start scripts get them."""
        found = subprocess.run(
            [
                *(*JAVA, "-cp", f"{self.jars}/bin/*:{self.jars}/lib/*"),
                *("org.apache.flink.runtime.util.bash.BashJavaUtils", f"GET_{kind}_RESOURCE_PARAMS"),
                *("--configDir", conf),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        marker = "BASH_JAVA_UTILS_EXEC_RESULT:"
        results = [line.split(":", 1)[1].split() for line in found.stdout.splitlines() if line.startswith(marker)]
        if len(results) != 2:
            raise SessionError(f"Flink does not take its configuration {conf}/config.yaml:\n{found.stdout[-2000:]}")
        return results[0], results[1]

    def _worker_pool(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "transforms.worker_pool", "--port", str(self.ports.workers)]
        return self._start("worker-pool", command)

    def _job_server(self) -> subprocess.Popen[bytes]:
        command = [
            *(*JAVA, "-Xmx512m", "-jar", str(self.jars / "job-server.jar")),
            *("--flink-master", f"http://{HOST}:{self.ports.rest}", "--job-host", HOST),
            *("--job-port", str(self.ports.jobs), "--artifact-port", str(self.ports.artifacts)),
            *("--expansion-port", str(self.ports.expansion), "--artifacts-dir", str(self.folder / "artifacts")),
            *("--flink-conf-dir", str(self.folder / "conf")),
        ]
        return self._start("job-server", command)

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", **os.environ, **self.environment}
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for the command
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self._parts[process] = name
        return process

    def _wait(self, parts: Sequence[subprocess.Popen[bytes]], until: Callable[[], bool]) -> None:
        """Wait until something is true that these parts are needed for.

        They must be alive then: it may be somebody else who answers, on a port that a part could not have.
        """
        deadline = time.monotonic() + START_PATIENCE
        while True:
            there = _true(until)
            for part in parts:
                if part.poll() is not None or (not there and time.monotonic() > deadline):
                    state = "does not answer" if part.poll() is None else f"ended with {part.returncode}"
                    log = self.folder / f"{self._parts[part]}.log"
                    text = log.read_text(errors="replace")[-2000:]
                    raise SessionError(f"{self._parts[part]} {state}; the end of {log}:\n{text}")
            if there:
                return
            time.sleep(0.1)

    def _end(self) -> None:
        for process in reversed(self._parts):
            process.terminate()
        deadline = time.monotonic() + STOP_PATIENCE
        for process in reversed(self._parts):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """See that this process is told to end when the one that started it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(port: int) -> bool:
    with socket.create_connection((HOST, port), timeout=1):
        return True


def _true(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (OSError, ValueError):  # it does not listen yet, or answers half
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python deploy/flink/session.py", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder for logs, to be kept")
    parser.add_argument("command", nargs="+", help="what to run while the session is there")
    arguments = parser.parse_args()
    if not (JARS / "job-server.jar").exists():
        print(f"no job-server.jar in {JARS}: run deploy/flink/fetch first", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="hublabel-flink-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with Session(folder) as session:
                print(f"Flink is at http://{HOST}:{session.ports.rest}, logs are in {folder}", file=sys.stderr)
                signal.signal(signal.SIGINT, lambda *_: None)  # the command answers Ctrl-C, we wait for it
                return subprocess.run(arguments.command, check=False).returncode
        except SessionError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
