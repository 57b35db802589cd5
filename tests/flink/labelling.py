"""The command `hublabel run` on Flink, and what is to be said of it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import chaos_checks as checks
from benchmarks.witness import Opening, Witness
from deploy.flink.session import HOST, Session

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 240
SHARD_SIZE = 8
PATIENCE = 400.0  # seconds for a job, on a busy machine
REPORT = "pipeline.html.thumbnail_process"  # what opens pictures for the report
LOOK = 0.02  # seconds between looks at files and processes


@dataclass(frozen=True)
class Pictures:
    """What is labelled, and with what.

    Attributes:
        folder: for all of these tests' files.
        uris: the input, `listing` the file that has them.
        model: the quickstart's SavedModel.
        witness: notes which process opens pictures and model.
    """

    folder: Path
    uris: list[str]
    listing: Path
    model: Path
    witness: Witness

    @property
    def reference(self) -> Path:
        """The output of the DirectRunner."""
        return self.folder / "direct"


def _command(pictures: Pictures, config: str, output: Path, places: Mapping[str, Any]) -> list[str]:
    settings = {
        "input.path": pictures.listing,
        "model.handle": pictures.model,
        "output.path": output,
        "batch.size": 8,
        "run.shard_size": SHARD_SIZE,
        "run.max_failed.fraction": 1.0,
        **places,
    }
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "pipeline.cli", "run", f"configs/{config}", "--json", *overrides]


def label_directly(pictures: Pictures) -> None:
    """Make the reference."""
    command = _command(pictures, "quickstart.yaml", pictures.reference, {})
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)


@dataclass
class FlinkRun:
    """`hublabel run configs/flink.yaml`, as a process.

    Attributes:
        session: the cluster; None for one inside the job server that the command starts, with workers of its own.
        name: of its output.
        environment: further variables of the command.
        options: further ones of the runner.
        own_server: whether the command starts a job server for the cluster itself.
        began: Unix time.
    """

    pictures: Pictures
    session: Session | None
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    own_server: bool = False
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.output = self.pictures.folder / self.name
        self._log = self.pictures.folder / f"{self.name}.jsonl"
        self.start()

    def start(self) -> None:
        """Start the command, or start it again."""
        command = _command(self.pictures, "flink.yaml", self.output, self._places())
        environment = {**os.environ, **self.environment}
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)

    def _places(self) -> dict[str, Any]:
        if self.session is None:
            return {"runner.options": "{flink_master: '[local]', parallelism: 2}"}
        ports = self.session.ports
        if self.own_server:
            options = {
                "flink_master": f"{HOST}:{ports.rest}",
                "environment_type": "EXTERNAL",
                "environment_config": f"{HOST}:{ports.workers}",
                "parallelism": 1,  # slow, to outlast the start of another launcher
            }
            staged = self.pictures.witness.folder / "staged"
            return {"runner.options": json.dumps(options), "model.staging": staged}
        return {
            "runner.options.job_endpoint": f"{HOST}:{ports.jobs}",
            "runner.options.environment_config": f"{HOST}:{ports.workers}",
            "model.staging": self.pictures.witness.folder / "staged",
            **{f"runner.options.{name}": value for name, value in self.options.items()},
        }

    def wait_for_parts(self, count: int) -> dict[str, tuple[int, int, int]]:
        """Wait until some parts have been committed; all there are by then, as `checks.part_identities`."""
        self.wait_until(lambda: len(checks.part_identities(self.output)) >= count)
        return checks.part_identities(self.output)

    def wait(self) -> int:
        """Wait for the command's end; its exit code."""
        return self.process.wait(PATIENCE)

    def wait_until(self, until: Callable[[], bool]) -> None:
        """Wait for something to become true while the command runs."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(LOOK)

    def said(self) -> str:
        return self._log.read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """What the command told of one kind."""
        found = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [values for values in found if values["event"] == event]

    def job(self) -> dict[str, Any]:
        """The one job of this run, as the session has it, with the failures that it has survived."""
        assert self.session is not None
        name = json.loads((self.output / "job.json").read_text())["name"]
        (job,) = [job for job in self.session.ask("jobs/overview")["jobs"] if job["name"] == name]
        history = self.session.ask(f"jobs/{job['jid']}/exceptions")["exceptionHistory"]["entries"]
        return {"state": job["state"], "failures": [entry["stacktrace"] for entry in history]}

    def openings(self) -> list[Opening]:
        """Of pictures, by workers and by the processes that isolate pictures."""
        photos = f"{self.pictures.witness.folder}/photos/"
        labelling = [one for one in self._openings() if one.module != REPORT]
        return [one for one in labelling if one.path.startswith(photos)]

    def model_loads(self) -> Counter[int]:
        """By process: each time a worker loads the model it first looks whether it has the right files."""
        return Counter(one.process for one in self._openings() if one.path.endswith("/variables.index"))

    def _openings(self) -> list[Opening]:
        return [one for one in self.pictures.witness.openings() if one.time >= self.began]

    def problems(self, kills: int = 0) -> list[str]:
        """What is wrong with the finished output, measured by the reference, and with how it came about."""
        openings = self.openings()
        rows = checks.read_rows(self.output)
        again, too_many = checks.recomputed(openings, IMAGES, kills, SHARD_SIZE)
        verify = [sys.executable, "-m", "pipeline.cli", "verify", str(self.output)]
        verified = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return [
            *checks.compare_rows(rows, checks.read_rows(self.pictures.reference), self.pictures.uris),
            *checks.read_again(openings, checks.read_parts(self.output)),
            *too_many,
            *([] if kills or not again else [f"{again} images were opened again"]),
            *([verified.stdout + verified.stderr] if verified.returncode else []),
        ]
