"""The quickstart's job on a Flink inside the job server that the command starts; workers are threads of the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import chaos_checks as checks
from tests.flink.conftest import SLOW_DISK
from tests.flink.labelling import IMAGES, PATIENCE, SHARD_SIZE, FlinkRun, Pictures

SHARDS = IMAGES // SHARD_SIZE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def pictures(jars: Path, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """The pictures, from a slow disk, with an account of their openings for each test."""
    monkeypatch.setenv("HUBLABEL_FLINK", str(jars))
    return replace(pictures, witness=replace(pictures.witness, log=tmp_path / "log", delay=SLOW_DISK))


def job_servers(run: FlinkRun) -> list[psutil.Process]:
    """The processes of Java that the command has started."""
    return [one for one in psutil.Process(run.process.pid).children(recursive=True) if one.name() == "java"]


def test_the_rows_are_those_of_the_direct_runner(pictures: Pictures) -> None:
    run = FlinkRun(pictures, None, "embedded", pictures.witness.environment())
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    assert len(checks.part_identities(run.output)) == SHARDS


def test_the_job_server_ends_with_a_killed_launcher_and_running_again_goes_on(pictures: Pictures) -> None:
    run = FlinkRun(pictures, None, "embedded-killed", pictures.witness.environment())
    parts = run.wait_for_parts(4)
    assert len(parts) < SHARDS
    (server,) = job_servers(run)
    run.process.kill()
    assert run.wait() == -9
    assert psutil.wait_procs([server], timeout=PATIENCE) == ([server], [])
    run.start()
    assert run.wait() == 0, run.said()
    assert "is not known there any more" in run.said()
    assert run.problems(kills=1) == []
    assert checks.changed_parts(parts, run.output) == []


def test_a_launcher_that_is_stopped_cancels_its_job(pictures: Pictures) -> None:
    """Nobody could attach to it."""
    run = FlinkRun(pictures, None, "embedded-stopped", pictures.witness.environment())
    run.wait_for_parts(1)
    (server,) = job_servers(run)
    run.process.terminate()
    assert run.wait() == 143, run.said()
    assert "the job is cancelled" in run.said()
    assert psutil.wait_procs([server], timeout=PATIENCE) == ([server], [])
