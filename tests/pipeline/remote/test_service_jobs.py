"""Jobs on job services that differ from Beam's own: a real server that is told what to answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from pipeline import remote_jobs
from pipeline.remote_jobs import NoAnswerError, ServiceJob, find_service_job, service_at

RUNNING, FAILED = beam_job_api_pb2.JobState.RUNNING, beam_job_api_pb2.JobState.FAILED
ERROR = beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR


class Service(beam_job_api_pb2_grpc.JobServiceServicer):
    """One job, `id-1`; it cannot list jobs, as Prism cannot."""

    unknown = grpc.StatusCode.NOT_FOUND

    def GetState(self, request: Any, context: Any) -> Any:
        if request.job_id != "id-1":
            context.abort(self.unknown, "no such job")
        return beam_job_api_pb2.JobStateEvent(state=FAILED)

    def GetMessageStream(self, request: Any, context: Any) -> Iterator[Any]:
        for text, importance in (("first", ERROR), ("last", ERROR), ("by the way", 0)):
            said = beam_job_api_pb2.JobMessage(message_text=text, importance=importance)
            yield beam_job_api_pb2.JobMessagesResponse(message_response=said)
        yield beam_job_api_pb2.JobMessagesResponse(state_response=beam_job_api_pb2.JobStateEvent(state=FAILED))


@pytest.fixture
def service() -> Iterator[Service]:
    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool)
        found = Service()
        beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(found, server)
        found.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"  # type: ignore[attr-defined]
        server.start()
        yield found
        server.stop(None)


def find(service: Service, job_id: str | None) -> Any:
    return find_service_job({"job_endpoint": service.endpoint}, "hublabel-1", job_id)  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN])
def test_a_service_that_lists_no_jobs_is_asked_by_id(service: Service, code: grpc.StatusCode) -> None:
    service.unknown = code
    found = find(service, "id-1")
    assert (found.id, found.state()) == ("id-1", "FAILED")
    assert find(service, "id-2") is None
    assert find(service, None) is None


def test_a_service_that_refuses_is_not_one_that_knows_no_job(service: Service) -> None:
    service.unknown = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(NoAnswerError, match="the job service does not answer: no such job"):
        find(service, "id-2")


def test_the_failure_is_the_last_error(service: Service) -> None:
    job = ServiceJob(service_at(service.endpoint), "id-1")  # type: ignore[attr-defined]
    assert job.state() == "FAILED"
    assert job.failure() == "last"


def test_a_service_that_went_with_its_launcher_knows_no_job() -> None:
    assert find_service_job({}, "hublabel-1", "id-1") is None


def test_a_service_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_jobs, "PATIENCE", 0.2)
    with pytest.raises(NoAnswerError, match=r"no Beam job service answers at 127.0.0.1:1 within 0.2 seconds"):
        find_service_job({"job_endpoint": "127.0.0.1:1"}, "hublabel-1", "id-1")
