"""Jobs on remote runners, alike for all: their state, how to end them, why they failed, how to find them again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from pipeline.errors import HublabelError
from pipeline.job_record import ENDED

PATIENCE = 30.0  # seconds for an answer of a job service
LOGGER = logging.getLogger(__name__)
LEVELS = {
    beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR: logging.ERROR,
    beam_job_api_pb2.JobMessage.JOB_MESSAGE_WARNING: logging.WARNING,
}


class NoAnswerError(HublabelError):
    """The runner did not answer; its job may go on."""


class RemoteJob(Protocol):
    """A job that a remote runner has taken.

    Attributes:
        id: the runner's.
    """

    id: str

    def state(self) -> str:
        """Its state in Beam's words, such as RUNNING or one of `job_record.ENDED`. Raises NoAnswerError."""

    def cancel(self) -> None:
        """Ask the runner to end it. Raises NoAnswerError."""

    def failure(self) -> str:
        """The last error that the runner told of; empty when it told of none."""


class ServiceJob:
    """A job on a Beam job service.

    Args:
        service: its stub, or the service itself where it is in this process.
        job_id: the job.
    """

    def __init__(self, service: Any, job_id: str) -> None:
        self.id = job_id
        self._service = service
        self._failure = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def state(self) -> str:
        found = ask(self._service, "GetState", beam_job_api_pb2.GetJobStateRequest(job_id=self.id)).state
        name = str(beam_job_api_pb2.JobState.Enum.Name(found))
        if name in ENDED:
            self._listener.join(PATIENCE / 3)  # for the last messages
        return name

    def cancel(self) -> None:
        ask(self._service, "Cancel", beam_job_api_pb2.CancelJobRequest(job_id=self.id))

    def failure(self) -> str:
        return self._failure

    def _listen(self) -> None:
        """Take the service's messages into the log until the job has ended."""
        try:
            for response in self._service.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=self.id)):
                message = response.message_response
                if message.importance == beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR:
                    self._failure = message.message_text
                LOGGER.log(LEVELS.get(message.importance, logging.INFO), "%s", message.message_text)
                if beam_job_api_pb2.JobState.Enum.Name(response.state_response.state) in ENDED:
                    return
        except grpc.RpcError as error:  # `state` says so
            LOGGER.warning("no more messages of %s: %s", self.id, _words(error))


def ask(service: Any, method: str, request: Any) -> Any:
    """The answer of a job service.

    Raises:
        NoAnswerError: there was none in time.
    """
    patience = {"timeout": PATIENCE} if isinstance(service, beam_job_api_pb2_grpc.JobServiceStub) else {}
    try:
        return getattr(service, method)(request, **patience)
    except grpc.RpcError as error:
        raise NoAnswerError(f"the job service does not answer: {_words(error)}") from error


def service_at(endpoint: str) -> Any:
    """The stub of the Beam job service at `endpoint` (host:port).

    Raises:
        NoAnswerError: nobody answers there.
    """
    channel = grpc.insecure_channel(endpoint)
    try:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    except grpc.FutureTimeoutError:
        channel.close()
        raise NoAnswerError(
            f"runner.options.job_endpoint: no Beam job service answers at {endpoint} within {PATIENCE:g} seconds"
        ) from None
    return beam_job_api_pb2_grpc.JobServiceStub(channel)


def find_service_job(options: Mapping[str, Any], name: str, job_id: str | None) -> RemoteJob | None:
    """The job of this name, or with this id, on the job service that the options name; None if it knows none.

    A service that was started for the one job went with its launcher, and knows none.

    Raises:
        NoAnswerError: the service does not answer.
    """
    endpoint = options.get("job_endpoint")
    if not endpoint:
        return None
    service = service_at(str(endpoint))
    try:
        jobs = ask(service, "GetJobs", beam_job_api_pb2.GetJobsRequest()).job_info
    except NoAnswerError as error:
        if _code(error) is not grpc.StatusCode.UNIMPLEMENTED:  # Prism
            raise
        return _asked_by_id(service, job_id)
    stopped = beam_job_api_pb2.JobState.STOPPED  # prepared, and then its launcher died
    by_name = [job.job_id for job in jobs if job_id is None and job.job_name == name and job.state != stopped]
    found = [job.job_id for job in jobs if job.job_id == job_id] or by_name
    return ServiceJob(service, found[0]) if found else None


def _asked_by_id(service: Any, job_id: str | None) -> RemoteJob | None:
    if job_id is None:
        return None
    try:
        ask(service, "GetState", beam_job_api_pb2.GetJobStateRequest(job_id=job_id))
    except NoAnswerError as error:
        if _code(error) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN):
            return None
        raise
    return ServiceJob(service, job_id)


def _code(error: NoAnswerError) -> Any:
    return error.__cause__.code() if isinstance(error.__cause__, grpc.RpcError) else None


def _words(error: grpc.RpcError) -> str:
    return str(error.details() or error.code()) if isinstance(error, grpc.Call) else str(error)
