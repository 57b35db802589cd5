"""Planning by workers that was stopped begins anew; launcher, service and workers are real processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.witness import Witness
from pipeline.job_record import JobRecord, load_job
from tests.pictures import COLOURS, colour_of, picture_bytes
from tests.pipeline.remote.services import JobService, worker_pool
from tests.pipeline.remote.test_jobs import PATIENCE, Launcher
from tests.pipeline.running import read_rows
from transforms.storage import LocalStorage

LISTS = 8  # each a piece, with three files to be written


@pytest.fixture
def slow_pool(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pool whose workers take so many seconds longer for each file while they plan."""
    folder = tmp_path / "pool"
    folder.mkdir()
    witness = Witness(tmp_path / "out" / "plan.partial", folder / "witness.log", request.param)
    with worker_pool(folder, witness.environment()) as address:
        yield address


@pytest.fixture
def config(colour_config: Path, tmp_path: Path, service: JobService, slow_pool: str) -> Path:
    for folder in ("photos", "lists"):
        (tmp_path / folder).mkdir()
    for number in range(LISTS):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
        (tmp_path / "lists" / f"{number:03d}.txt").write_text(f"{tmp_path}/photos/{number:03d}.png\n")
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": slow_pool}
    text = (
        colour_config.read_text()
        .replace("/photos}", "/lists/*.txt}")
        .replace("{shard_size", "{planning: runner, shard_size")
    )
    colour_config.write_text(f"{text}runner: {{name: PortableRunner, options: {json.dumps(options)}}}\n")
    return colour_config


def interrupt(launcher: Launcher) -> None:
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.ended() == 130
    assert "cancelling the job that plans ..." in launcher.said


def kill(launcher: Launcher) -> None:
    """Its child sees that, and cancels the job."""
    children = launcher.process.children()
    launcher.process.kill()
    assert launcher.ended() == -9
    psutil.wait_procs(children, timeout=60)


def kill_all(launcher: Launcher) -> None:
    """As when the machine goes: nobody cancels the job."""
    for process in [*launcher.process.children(recursive=True), launcher.process]:
        process.kill()
    assert launcher.ended() == -9


def job_of(output: Path) -> JobRecord:
    job = load_job(LocalStorage(str(output / "plan.partial")))
    assert job is not None
    return job


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("stop", "slow_pool"),
    [(interrupt, 0.3), (kill, 0.3), (kill_all, 0.75)],
    indirect=["slow_pool"],
)
def test_planning_begins_anew(
    config: Path, tmp_path: Path, service: JobService, stop: Callable[[Launcher], None]
) -> None:
    output = tmp_path / "out"
    first, second = Launcher(config), None
    try:
        first.wait_for(lambda: list(output.glob("plan.partial/*-counted.json")))
        job = job_of(output)
        stop(first)
        assert not (output / "run.yaml").exists()
        assert not (output / "plan").exists()
        assert service.jobs()[job.name] == ("RUNNING" if stop is kill_all else "CANCELLED")
        assert (output / "plan.partial").exists() == (stop is not interrupt)
        second = Launcher(config)
        assert second.ended(PATIENCE) == 0, second.said
        told = f"{job}, which planned for an earlier launcher, is cancelled" in second.said
        assert told == (stop is kill_all)
        rows = [(row["row"], Path(row["uri"]).name, row["label"]) for row in read_rows(output)]
        assert rows == [(n, f"{n:03d}.png", COLOURS[n % 3]) for n in range(LISTS)]
        assert len(list(output.glob("plan/*"))) == LISTS
    finally:
        first.close()
        if second is not None:
            second.close()
