"""The quickstart's job on a real Flink cluster: undisturbed, and with SIGKILL to a part of it in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from benchmarks import chaos_checks as checks
from deploy.flink.session import Session
from tests.flink.labelling import IMAGES, SHARD_SIZE, FlinkRun, Pictures

SHARDS = IMAGES // SHARD_SIZE
A_FEW = 4  # parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def workers(session: Session) -> list[psutil.Process]:
    """The Python worker processes, by age."""
    return sorted(psutil.Process(session.pool.pid).children(), key=lambda process: process.create_time())


def in_the_middle(run: FlinkRun) -> dict[str, tuple[int, int, int]]:
    """The parts there are once a few are; few enough that work is left."""
    parts = run.wait_for_parts(A_FEW)
    assert len(parts) < SHARDS
    return parts


def test_the_rows_are_those_of_the_direct_runner(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "undisturbed")
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    assert run.job() == {"state": "FINISHED", "failures": []}
    # Progress comes from the parts, while the job is at work.
    done = [event["done"] for event in run.events("progress")]
    assert done == sorted(done)
    assert any(0 < images < IMAGES for images in done), done
    # Two TaskManagers, so two worker processes; both label, and each has loaded the model once.
    labelling = {one.process for one in run.openings()}
    assert len(labelling) == 2
    assert run.model_loads() == dict.fromkeys(labelling, 1)


def test_a_lost_taskmanager_costs_only_the_shards_it_was_at(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "lost-taskmanager")
    parts = in_the_middle(run)
    session.taskmanagers[0].kill()
    assert run.wait() == 0, run.said()
    assert run.problems(kills=1) == []
    assert checks.changed_parts(parts, run.output) == []
    job = run.job()
    assert job["state"] == "FINISHED"
    assert len(job["failures"]) >= 1


def test_a_killed_worker_costs_only_the_shards_it_was_at(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "killed-worker")
    parts = in_the_middle(run)
    victim, other = workers(session)
    victim.kill()
    assert run.wait() == 0, run.said()
    assert run.problems(kills=1) == []
    assert checks.changed_parts(parts, run.output) == []
    assert run.job()["state"] == "FINISHED"
    assert len(run.job()["failures"]) >= 1
    # The other worker labels on; only the killed one has a successor.
    labelling = {one.process for one in run.openings()}
    assert len(labelling) == 3
    assert {victim.pid, other.pid} < labelling
    assert run.model_loads() == dict.fromkeys(labelling, 1)


def test_without_batch_forced_a_killed_worker_costs_the_others_their_shards_too(
    session: Session, pictures: Pictures
) -> None:
    run = FlinkRun(pictures, session, "pipelined", options={"execution_mode_for_batch": "PIPELINED"})
    parts = in_the_middle(run)
    workers(session)[0].kill()
    assert run.wait() == 0, run.said()
    assert run.problems(kills=2) == []
    assert checks.changed_parts(parts, run.output) == []
    assert run.job()["state"] == "FINISHED"
    assert len({one.process for one in run.openings()}) == 4  # two, and two successors


def test_there_may_be_more_tasks_than_slots(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "many-tasks", options={"parallelism": 7})
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    assert run.job() == {"state": "FINISHED", "failures": []}


def test_a_job_goes_on_without_its_job_server(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "lost-job-server")
    in_the_middle(run)
    session.jobserver.kill()
    run.wait_until(lambda: run.job()["state"] == "FINISHED")
    run.process.kill()  # it would wait for the job server for ten minutes
    assert run.wait() == -9
    session.complete()
    run.start()
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    assert run.job() == {"state": "FINISHED", "failures": []}  # one job, as all its shards had their parts


def test_running_again_attaches_to_the_job_of_a_killed_launcher(session: Session, pictures: Pictures) -> None:
    run = FlinkRun(pictures, session, "killed-launcher")
    in_the_middle(run)
    run.process.kill()
    assert run.wait() == -9
    run.start()
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    assert run.job() == {"state": "FINISHED", "failures": []}  # one job, or there would be two of the name


def test_the_job_of_a_killed_launcher_with_a_job_server_of_its_own_is_cancelled(
    session: Session, pictures: Pictures, jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with all its processes, as by a machine that goes: none is left that would cancel the job.

    Nobody can attach to it, and it would go on beside its successor.
    """
    monkeypatch.setenv("HUBLABEL_FLINK", str(jars))
    run = FlinkRun(pictures, session, "killed-with-its-server", own_server=True)
    parts = in_the_middle(run)
    name = json.loads((run.output / "job.json").read_text())["name"]
    for process in [*psutil.Process(run.process.pid).children(recursive=True), run.process]:
        process.kill()
    assert run.wait() == -9
    run.start()
    assert run.wait() == 0, run.said()
    assert "cannot be attached to without its launcher, and is cancelled" in run.said()
    assert run.problems(kills=1) == []
    assert checks.changed_parts(parts, run.output) == []
    states = {job["name"]: job["state"] for job in session.ask("jobs/overview")["jobs"]}
    assert states[name] == "CANCELED"
    assert run.job()["state"] == "FINISHED"
