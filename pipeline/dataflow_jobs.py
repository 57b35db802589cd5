"""Jobs on Dataflow, through the client that Beam submits them with."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.remote_jobs import NoAnswerError, RemoteJob

ERRORS = "JOB_MESSAGE_ERROR"


class DataflowJob:
    """A job on Dataflow.

    Args:
        client: Beam's `DataflowApplicationClient`, or what stands for it.
        job_id: the job.
    """

    def __init__(self, client: Any, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def state(self) -> str:
        found = _answer(lambda: self._client.get_job(self.id)).current_state.name.removeprefix("JOB_STATE_")
        return "PENDING" if found == "QUEUED" else str(found)

    def cancel(self) -> None:
        _answer(lambda: self._client.modify_job_state(self.id, "JOB_STATE_CANCELLED"))

    def failure(self) -> str:
        """The last error but for those that only count attempts; Dataflow takes half a minute to tell it."""
        messages: list[str] = []
        token: str | None = None
        while token != "":
            page, token = _answer(partial(self._client.list_messages, self.id, page_token=token))
            messages += [message.message_text for message in page if message.message_importance.name == ERRORS]
        telling = [text for text in messages if "work item was attempted" not in text]
        return (telling or messages or [""])[-1]


def find_dataflow_job(options: Mapping[str, Any], name: str, job_id: str | None) -> RemoteJob | None:
    """The job with this id, or of this name among those that are active; None if there is none.

    Raises:
        NoAnswerError: Dataflow does not answer, or not to these credentials.
    """
    from apache_beam.runners.dataflow.internal import apiclient

    parsed = PipelineOptions.from_dictionary(dict(options))
    client = _answer(lambda: apiclient.DataflowApplicationClient(parsed))
    return find_job(client, str(options.get("project")), str(options.get("region")), name, job_id)


def find_job(client: Any, project: str, region: str, name: str, job_id: str | None) -> RemoteJob | None:
    """`find_dataflow_job` with a client that is there."""
    from google.api_core.exceptions import NotFound

    if job_id is not None:
        try:
            client.get_job(job_id)
        except NotFound:
            return None
        except Exception as error:
            raise NoAnswerError(f"Dataflow does not answer: {error}") from error
        return DataflowJob(client, job_id)
    dataflow: Any = importlib.import_module("google.cloud.dataflow")
    active = dataflow.ListJobsRequest.Filter.ACTIVE
    request = dataflow.ListJobsRequest(project_id=project, location=region, filter=active)
    for job in _answer(lambda: list(client._jobs_client.list_jobs(request))):
        if job.name == name:
            return DataflowJob(client, job.id)
    return None


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # of the client, of its transport, of the credentials: all mean that nothing is known
        raise NoAnswerError(f"Dataflow does not answer: {error}") from error
