"""Watching a job to its end; the job and the clock are fakes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.errors import HublabelError
from pipeline.job_record import JobRecord, load_job, save_job
from pipeline.plan import Plan, PlanFile
from pipeline.record import RunRecord, save_record
from pipeline.remote_child import NO_ANSWER, Orders, _see_to_the_end, run, watch
from pipeline.remote_jobs import NoAnswerError
from transforms.attempts import mark_name
from transforms.parts import part_name
from transforms.records import Shard
from transforms.storage import LocalStorage


class FakeJob:
    """Gives the `states` one after the other, the last for ever; None is no answer."""

    id = "id-1"

    def __init__(self, *states: str | None, failure: str = "") -> None:
        self._states, self._failure = list(states), failure
        self.cancelled = 0

    def state(self) -> str:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None:
            raise NoAnswerError("the job service does not answer: refused")
        return state

    def cancel(self) -> None:
        self.cancelled += 1
        self._states = ["CANCELLING", "CANCELLED"]

    def failure(self) -> str:
        return self._failure


class Told:
    """Takes events."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def __call__(self, event: str, **values: Any) -> None:
        assert event == "phase"
        self.phases.append(values["name"])


class Time:
    """A clock that waits move on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def watched(job: FakeJob, cancel: bool = False) -> tuple[str, list[str], Time]:
    told, time, order = Told(), Time(), threading.Event()
    if cancel:
        order.set()
    state = watch(job, told, order, clock=lambda: time.now, wait=time.wait)
    return state, told.phases, time


def test_a_job_from_its_start_to_its_end() -> None:
    job = FakeJob("STARTING", "STARTING", "RUNNING", "RUNNING", "DONE")
    assert watched(job)[:2] == ("DONE", ["job starting", "labelling"])


def test_a_service_is_asked_less_often_as_time_goes_by() -> None:
    waits = watched(FakeJob(*["RUNNING"] * 200, "DONE"))[2].waits
    assert waits[0] == pytest.approx(0.2)
    assert waits == sorted(waits)
    assert waits[-1] == 5.0


def test_a_short_silence_is_nothing() -> None:
    assert watched(FakeJob("RUNNING", None, None, "RUNNING", "DONE"))[:2] == ("DONE", ["labelling"])


def test_a_long_silence_leaves_the_job_to_itself() -> None:
    time = Time()
    with pytest.raises(NoAnswerError, match=r"refused; the job may go on: run the same command again to attach to it"):
        watch(FakeJob("RUNNING", None), Told(), threading.Event(), clock=lambda: time.now, wait=time.wait)
    assert NO_ANSWER < time.now < NO_ANSWER + 10


def test_a_job_is_told_once_to_end() -> None:
    job = FakeJob("RUNNING")
    assert watched(job, cancel=True)[:2] == ("CANCELLED", ["job cancelling"])
    assert job.cancelled == 1


KNOWN = JobRecord("PortableRunner", "host:1", "hublabel-1", "id-1")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """An output where a worker died with a shard in its hands."""
    storage = LocalStorage(str(tmp_path))
    storage.put_if_absent(mark_name(Shard(0, 3, 4), 1), b"begun\n")
    return storage


def seen_to(storage: LocalStorage, job: FakeJob, orders: Orders) -> None:
    plan = Plan(4, 1, 4, (PlanFile("plan/plan-00000.parquet", 1, 4, 4, 100),), "", {})
    _see_to_the_end(storage, RunRecord(storage.root, {}, "", {}, plan, {}), KNOWN, job, Told(), orders)


def marks(storage: LocalStorage) -> list[str]:
    return list(storage.list("attempts/00000"))


def test_a_job_that_is_done_is_recorded(storage: LocalStorage) -> None:
    seen_to(storage, FakeJob("DONE"), Orders())
    job = load_job(storage)
    assert job is not None
    assert (job.state, job.ended) == ("DONE", True)


def test_a_job_that_we_cancel_leaves_no_marks_of_death(storage: LocalStorage) -> None:
    orders = Orders()
    orders.cancel.set()
    seen_to(storage, FakeJob("RUNNING"), orders)
    assert marks(storage) == []
    job = load_job(storage)
    assert job is not None
    assert job.state == "CANCELLED"


def test_a_job_that_somebody_else_cancels_ends_the_run(storage: LocalStorage) -> None:
    with pytest.raises(HublabelError) as caught:
        seen_to(storage, FakeJob("RUNNING", "CANCELLED"), Orders())
    assert str(caught.value) == (
        "job id-1 (PortableRunner at host:1) was cancelled; what is committed stays: "
        "run the same command again to go on"
    )
    assert marks(storage) == []


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("", "the runner does not say why"),
        (
            "Traceback:\n  File x\ntransforms.x.BrokenModelError: the model fails [while running 'C']\n",
            "the model fails",
        ),
    ],
)
def test_a_job_that_fails_says_why(storage: LocalStorage, failure: str, said: str) -> None:
    with pytest.raises(HublabelError) as caught:
        seen_to(storage, FakeJob("RUNNING", "FAILED", failure=failure), Orders())
    assert str(caught.value) == (
        f"job id-1 (PortableRunner at host:1) failed: {said}; "
        "what is committed stays: run the same command again to go on"
    )
    assert marks(storage) == ["attempts/00000/00003-1"]  # an image may have killed the worker


class Everything:
    """A run with a job that may go on, its runner and its launcher's child; what is submitted labels nothing."""

    def __init__(self, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, job: FakeJob, **options: str) -> None:
        self.said: list[str] = []
        self.submitted: list[list[Shard]] = []
        self.orders, self._storage = Orders(), storage
        config = {
            "input": {"path": "list.txt"}, "model": {"handle": "/m"}, "output": {"path": storage.root},
            "runner": {"name": "PortableRunner", "options": {"job_endpoint": "host:1", **options}},
        }  # fmt: skip
        plan = Plan(10, 3, 4, (PlanFile("plan/plan-00000.parquet", 3, 10, 4, 100),), "", {})
        values = RunConfig.model_validate(config).resolved()
        save_record(storage, RunRecord(storage.root, values, "/m", {"model files": ""}, plan, {}))
        save_job(storage, KNOWN)
        monkeypatch.setattr("pipeline.runners.find_job", lambda *_: job)
        monkeypatch.setattr("pipeline.remote_child._submit", self._submit)

    def _submit(self, storage: Any, record: Any, config: Any, shards: list[Shard], tell: Any) -> Any:
        self.submitted.append(shards)
        return JobRecord("PortableRunner", "host:1", "hublabel-2", "id-2"), FakeJob("DONE")

    def run(self, *shards: Shard) -> None:
        run(self._storage.root, list(shards), self._tell, self.orders)

    def _tell(self, event: str, **values: Any) -> None:
        if event == "say":
            self.said.append(values["text"])


def commit(storage: LocalStorage, shard: Shard) -> None:
    """Something with the name of the shard's part."""
    assert storage.put_if_absent(part_name(shard), b"part")


def test_what_an_attached_job_was_not_submitted_for_gets_a_job_of_its_own(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there_is = Everything(storage, monkeypatch, FakeJob("DONE"))
    first, again, last = Shard(0, 0, 4), Shard(0, 1, 1, generation=1, positions=(2,)), Shard(0, 2, 2)
    commit(storage, first)
    commit(storage, Shard(0, 1, 4))
    all_there_is.run(first, again, last)
    assert all_there_is.submitted == [[again, last]]
    assert all_there_is.said == [f"attached to {KNOWN}", "submitted job id-2 (PortableRunner at host:1)"]


def test_an_attached_job_that_did_it_all_gets_no_successor(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there_is = Everything(storage, monkeypatch, FakeJob("DONE"))
    commit(storage, Shard(0, 0, 4))
    all_there_is.run(Shard(0, 0, 4))
    assert all_there_is.submitted == []


def test_an_attached_job_that_is_cancelled_gets_no_successor(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there_is = Everything(storage, monkeypatch, FakeJob("RUNNING"))
    all_there_is.orders.cancel.set()
    all_there_is.run(Shard(0, 0, 4))
    assert all_there_is.submitted == []


def test_a_job_whose_workers_went_with_its_launcher_is_not_waited_for(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = FakeJob("RUNNING")
    all_there_is = Everything(storage, monkeypatch, job, environment_type="LOOPBACK")
    save_job(storage, KNOWN, ends_with_launcher=True)
    all_there_is.run(Shard(0, 0, 4))
    assert job.cancelled == 1
    assert all_there_is.submitted == [[Shard(0, 0, 4)]]
    assert all_there_is.said[0] == f"{KNOWN} cannot be attached to without its launcher, and is cancelled"
    assert all_there_is.orders.job.id == "id-1"  # of the successor


@pytest.mark.parametrize("goes_on", [True, False])
def test_whether_a_job_has_lost_its_workers_is_its_own_affair(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """The workers of the next one may be elsewhere."""
    job = FakeJob("RUNNING", "DONE")
    environment = "LOOPBACK" if goes_on else "EXTERNAL"
    all_there_is = Everything(storage, monkeypatch, job, environment_type=environment)
    save_job(storage, KNOWN, ends_with_launcher=not goes_on)
    commit(storage, Shard(0, 0, 4))
    all_there_is.run(Shard(0, 0, 4), Shard(0, 1, 4))
    assert job.cancelled == (not goes_on)
    told = (
        f"attached to {KNOWN}" if goes_on else f"{KNOWN} cannot be attached to without its launcher, and is cancelled"
    )
    assert all_there_is.said == [told, "submitted job id-2 (PortableRunner at host:1)"]
    assert (all_there_is.orders.job is not None) == goes_on  # only a job of this process ends with it


def test_the_log_has_what_beam_does_and_not_what_it_thinks_of_type_hints() -> None:
    program = """
import logging
logging.basicConfig(format="%(levelname)s %(name)s")
from pipeline.remote_child import log_beam
log_beam()
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type
convert_to_beam_type("beam.PCollection")
logging.getLogger("apache_beam.runners.portability.portable_runner").info("submitted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "INFO apache_beam.runners.portability.portable_runner" in done.stderr
    assert "typehints" not in done.stderr
