"""Submitting to Beam job services: jobs that can be found again by name, options that the service knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.job_server import SubprocessJobServer
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from pipeline.remote_jobs import service_at
from pipeline.runner_options import check_known
from transforms.programs import program


class NamedJobs:
    """A portable runner whose jobs have names, and which refuses options that its job service does not know either.

    Args:
        given: names of the options that the config has.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        super().__init__()
        self._given = tuple(given)

    def create_job_service(self, options: PipelineOptions) -> JobServiceHandle:
        """As Beam does it, but with our patience for a service that does not answer: Beam's is five minutes."""
        endpoint = options.view_as(PortableOptions).job_endpoint
        if not endpoint or endpoint == "embed":
            return super().create_job_service(options)  # type: ignore[misc]
        return self.create_job_service_handle(service_at(endpoint), options)

    def default_job_server(self, options: PipelineOptions) -> Any:
        """As Beam does it, but a job server that is a process ends with this one, even when this one is killed."""
        server = super().default_job_server(options)  # type: ignore[misc]
        started = getattr(server, "_job_server", None)  # in what stops it at exit
        if isinstance(started, SubprocessJobServer):
            started.subprocess_cmd_and_endpoint = partial(_ending_with_us, started.subprocess_cmd_and_endpoint)
        return server

    def create_job_service_handle(self, job_service: Any, options: PipelineOptions) -> JobServiceHandle:
        handle = super().create_job_service_handle(job_service, options)  # type: ignore[misc]
        return _NamedHandle(handle, self._given)


def _ending_with_us(command_and_endpoint: Callable[[], tuple[list[str], str]]) -> tuple[list[str], str]:
    command, endpoint = command_and_endpoint()
    return program("pipeline.end_with_parent", str(os.getpid()), *command), endpoint


class _NamedHandle(JobServiceHandle):
    def __init__(self, handle: JobServiceHandle, given: Iterable[str]) -> None:
        super().__init__(handle.job_service, handle.options, handle._retain_unknown_options)
        self._given = tuple(given)

    def prepare(self, proto_pipeline: Any) -> Any:
        """As Beam does it, but for the name, which there is always `job`."""
        described = self.job_service.DescribePipelineOptions(
            beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=self.timeout
        )
        check_known(self._given, [option.name for option in described.options])
        request = beam_job_api_pb2.PrepareJobRequest(
            job_name=self.options.view_as(GoogleCloudOptions).job_name or "hublabel",
            pipeline=proto_pipeline,
            pipeline_options=self.get_pipeline_options(),
        )
        return self.job_service.Prepare(request, timeout=self.timeout)

    def run(self, preparation_id: str) -> tuple[str, Iterator[Any], Iterator[Any]]:
        """As Beam does it, but without its streams of states and messages.

        Those end with the time-out for requests, and the job is then taken to have failed.
        """
        request = beam_job_api_pb2.RunJobRequest(preparation_id=preparation_id)
        return self.job_service.Run(request).job_id, iter(()), iter(())
