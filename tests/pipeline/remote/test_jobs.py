"""Jobs that outlive their launcher: left, attached to, cancelled; launcher, service and workers are real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.witness import Witness
from pipeline.job_record import JobRecord, load_job, save_job
from tests.pictures import COLOURS, colour_of, picture_bytes
from tests.pipeline.remote.services import ROOT, JobService, worker_pool
from tests.pipeline.running import parts_of, read_rows
from transforms.storage import LocalStorage

PICTURES = 320
SLOW_DISK = 1.5  # seconds that reading a picture takes: some five shards of four a second
ENDS = 60.0  # seconds within which a launcher ends that was told to, on a busy machine too
PATIENCE = 240.0  # seconds for a whole run, likewise


@pytest.fixture
def slow_pool(tmp_path: Path) -> Iterator[str]:
    """A pool whose workers read slowly."""
    folder = tmp_path / "pool"
    folder.mkdir()
    with worker_pool(folder, Witness(tmp_path / "photos", folder / "witness.log", SLOW_DISK).environment()) as address:
        yield address


class Launcher:
    """One `hublabel run`, with a terminal or without."""

    def __init__(self, config: Path, terminal: bool = False) -> None:
        command = [sys.executable, "-m", "pipeline.cli", "run", str(config)]
        self._screen, self.said = -1, ""
        if terminal:
            self._screen, inner = pty.openpty()
            self.process = psutil.Popen(command, stdin=inner, stdout=inner, stderr=inner, cwd=ROOT, env=self._plain())
            os.close(inner)
        else:
            self.process = psutil.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
            )
            self._screen = os.dup(self.process.stdout.fileno())

    @staticmethod
    def _plain() -> dict[str, str]:
        return {**os.environ, "TERM": "xterm", "COLUMNS": "200"}

    def read(self, seconds: float = 0.05) -> None:
        """Take what it has printed."""
        with contextlib.suppress(OSError):  # a terminal whose process has ended
            while select.select([self._screen], [], [], seconds)[0]:
                if not (data := os.read(self._screen, 65536)):
                    return
                self.said += data.decode(errors="replace")

    def wait_for(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until `condition` holds; the launcher must not end before."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.read()
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"exit code {self.process.poll()}: {self.said}")

    def ended(self, seconds: float = ENDS) -> int:
        """Its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        assert self.process.poll() is not None, self.said
        self.read()
        return int(self.process.poll())

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def close(self) -> None:
        """End what is left of it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*self.process.children(recursive=True), self.process]:
                process.kill()
        self.process.wait()
        os.close(self._screen)


class Jobs:
    """Runs of one config over 320 pictures, on the job service.

    Attributes:
        output: the run's output.
    """

    def __init__(self, config: Path, output: Path, service: JobService) -> None:
        self.config, self.output, self._service = config, output, service
        self._launchers: list[Launcher] = []

    def start(self, terminal: bool = False) -> Launcher:
        self._launchers.append(Launcher(self.config, terminal))
        return self._launchers[-1]

    def record(self) -> JobRecord:
        job = load_job(LocalStorage(str(self.output)))
        assert job is not None
        return job

    def state(self, name: str) -> str:
        """What the service says of the job of this name."""
        return self._service.jobs()[name]

    def wait_until_done(self, name: str) -> None:
        """Until the service has ended the job, so that its workers do not disturb the next test."""
        deadline = time.monotonic() + PATIENCE
        while self.state(name) == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.close()


@pytest.fixture
def jobs(tmp_path: Path, colour_config: Path, service: JobService, slow_pool: str) -> Iterator[Jobs]:
    (tmp_path / "photos").mkdir()
    for number in range(PICTURES):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": slow_pool}
    with colour_config.open("a") as file:
        file.write(f"runner: {{name: PortableRunner, options: {json.dumps(options)}}}\n")
    found = Jobs(colour_config, tmp_path / "out", service)
    yield found
    found.close()


def assert_every_row_once(output: Path) -> None:
    assert [(row["row"], row["label"]) for row in read_rows(output)] == [(n, COLOURS[n % 3]) for n in range(PICTURES)]
    assert (output / "_SUCCESS").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_goes_on_without_its_launcher_and_is_attached_to(jobs: Jobs) -> None:
    first = jobs.start()
    first.wait_for(lambda: parts_of(jobs.output))
    first.process.send_signal(signal.SIGINT)
    assert first.ended() == 130
    job = jobs.record()
    assert f"{job} goes on; the same command attaches to it" in first.said
    assert jobs.state(job.name) == "RUNNING"
    labelled = len(parts_of(jobs.output))
    assert labelled < PICTURES / 4
    second = jobs.start()
    assert second.ended(PATIENCE) == 0, second.said
    assert f"attached to {job}" in second.said
    assert "submitted" not in second.said
    assert jobs.record() == JobRecord(job.runner, job.at, job.name, job.id, job.submitted, "DONE")
    assert_every_row_once(jobs.output)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_launcher_that_is_killed_leaves_its_job(jobs: Jobs) -> None:
    first = jobs.start()
    first.wait_for(lambda: parts_of(jobs.output))
    first.process.kill()
    assert first.ended() == -9
    job = jobs.record()
    assert jobs.state(job.name) == "RUNNING"
    # As if it had died before the service's answer: the job is found by its name.
    save_job(LocalStorage(str(jobs.output)), JobRecord(job.runner, job.at, job.name, None, job.submitted))
    second = jobs.start()
    assert second.ended(PATIENCE) == 0, second.said
    assert f"attached to {job}" in second.said
    assert_every_row_once(jobs.output)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("answer", ["c", "d"])
def test_ctrl_c_at_a_terminal_asks(jobs: Jobs, answer: str) -> None:
    launcher = jobs.start(terminal=True)
    launcher.wait_for(lambda: parts_of(jobs.output))
    launcher.process.send_signal(signal.SIGINT)
    launcher.wait_for(lambda: "[d]etach from it, or [c]ancel it?" in launcher.said, ENDS)
    launcher.type(f"{answer}\n")
    assert launcher.ended() == 130
    job = jobs.record()
    if answer == "c":
        assert "the job is cancelled" in launcher.said
        assert (job.state, jobs.state(job.name)) == ("CANCELLED", "CANCELLED")
    else:
        assert f"{job} goes on; the same command attaches to it" in launcher.said
        assert (job.state, jobs.state(job.name)) == (None, "RUNNING")
    jobs.wait_until_done(job.name)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("attached", [False, True])
def test_too_many_failed_images_cancel_the_job(jobs: Jobs, attached: bool) -> None:
    for path in sorted(jobs.config.parent.glob("photos/*.png"))[:40]:
        path.write_bytes(path.read_bytes()[:60])
    if attached:  # a job whose launcher went before there were too many
        first = jobs.start()
        first.wait_for(lambda: len(parts_of(jobs.output)) > 5)
        first.process.send_signal(signal.SIGTERM)
        assert first.ended() == 143
    budget = "shard_size: 4, max_failed: {fraction: 0, at_least: 9}"
    jobs.config.write_text(jobs.config.read_text().replace("shard_size: 4", budget))
    launcher = jobs.start()
    assert launcher.ended(PATIENCE) == 3, launcher.said
    assert "the job is cancelled" in launcher.said
    assert "images failed, and run.max_failed allows 9 of 320" in launcher.said
    job = jobs.record()
    assert (job.state, jobs.state(job.name)) == ("CANCELLED", "CANCELLED")
    assert not (jobs.output / "_SUCCESS").exists()
