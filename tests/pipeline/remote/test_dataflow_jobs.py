"""Jobs on Dataflow; the service is a fake that answers in the client's own types."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import Forbidden, NotFound
from google.cloud import dataflow

from pipeline.dataflow_jobs import DataflowJob, find_job
from pipeline.remote_jobs import NoAnswerError

ERROR, DEBUG = dataflow.JobMessageImportance.JOB_MESSAGE_ERROR, dataflow.JobMessageImportance.JOB_MESSAGE_DEBUG


def job(state: str = "RUNNING", name: str = "hublabel-1", job_id: str = "id-1") -> dataflow.Job:
    return dataflow.Job(id=job_id, name=name, current_state=dataflow.JobState[f"JOB_STATE_{state}"])


class FakeClient:
    """Dataflow, with some jobs."""

    def __init__(self, *jobs: dataflow.Job, pages: tuple[list[Any], ...] = ([],)) -> None:
        self._jobs, self._pages = {job.id: job for job in jobs}, pages
        self._jobs_client = self
        self.requests: list[Any] = []

    def get_job(self, job_id: str) -> dataflow.Job:
        if job_id not in self._jobs:
            raise NotFound("no such job")
        return self._jobs[job_id]

    def modify_job_state(self, job_id: str, state: str) -> bool:
        self.requests.append((job_id, state))
        return True

    def list_messages(self, job_id: str, page_token: str | None = None) -> tuple[list[Any], str]:
        number = int(page_token or 0)
        return self._pages[number], str(number + 1) if number + 1 < len(self._pages) else ""

    def list_jobs(self, request: dataflow.ListJobsRequest) -> list[dataflow.Job]:
        self.requests.append(request)
        return list(self._jobs.values())


def message(text: str, importance: dataflow.JobMessageImportance = ERROR) -> dataflow.JobMessage:
    return dataflow.JobMessage(message_text=text, message_importance=importance)


@pytest.mark.parametrize(
    ("state", "said"), [("QUEUED", "PENDING"), ("RUNNING", "RUNNING"), ("DONE", "DONE"), ("CANCELLED", "CANCELLED")]
)
def test_states_are_beams(state: str, said: str) -> None:
    assert DataflowJob(FakeClient(job(state)), "id-1").state() == said


def test_cancelling() -> None:
    client = FakeClient(job())
    DataflowJob(client, "id-1").cancel()
    assert client.requests == [("id-1", "JOB_STATE_CANCELLED")]


def test_the_failure_is_the_last_error_that_tells_something() -> None:
    counts = message("work item was attempted 4 times without success")
    pages = ([message("a"), message("d", DEBUG)], [message("the model fails"), counts], [message("e", DEBUG)])
    assert DataflowJob(FakeClient(job(), pages=pages), "id-1").failure() == "the model fails"
    assert DataflowJob(FakeClient(job(), pages=([counts],)), "id-1").failure() == counts.message_text
    assert DataflowJob(FakeClient(job()), "id-1").failure() == ""


def test_a_service_that_refuses() -> None:
    class Refusing(FakeClient):
        def get_job(self, job_id: str) -> dataflow.Job:
            raise Forbidden("the caller does not have permission")

    with pytest.raises(NoAnswerError, match=r"Dataflow does not answer: 403 the caller does not have permission"):
        DataflowJob(Refusing(), "id-1").state()
    with pytest.raises(NoAnswerError, match=r"Dataflow does not answer: 403 the caller"):
        find_job(Refusing(), "p", "r", "hublabel-1", "id-1")


def test_a_job_is_found_by_its_id() -> None:
    found = find_job(FakeClient(job()), "p", "r", "hublabel-1", "id-1")
    assert found is not None
    assert found.id == "id-1"
    assert find_job(FakeClient(job()), "p", "r", "hublabel-1", "id-2") is None


def test_a_job_is_found_by_its_name_among_the_active() -> None:
    client = FakeClient(job(name="other", job_id="id-0"), job())
    found = find_job(client, "p", "r", "hublabel-1", None)
    assert found is not None
    assert found.id == "id-1"
    (request,) = client.requests
    assert (request.project_id, request.location) == ("p", "r")
    assert request.filter == dataflow.ListJobsRequest.Filter.ACTIVE
    assert find_job(client, "p", "r", "hublabel-2", None) is None
