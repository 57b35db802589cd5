"""From the config's runner section to a Beam runner and its options; with `runner_table` all that knows their names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability import flink_runner, portable_runner, prism_runner
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner

from pipeline.dataflow_jobs import DataflowJob, find_dataflow_job
from pipeline.errors import UsageError
from pipeline.flink_jobs import find_flink_job
from pipeline.flink_server import flink_options
from pipeline.job_service import NamedJobs
from pipeline.prism import prism_options
from pipeline.remote_jobs import RemoteJob, ServiceJob, find_service_job
from pipeline.runner_options import check_known
from pipeline.runner_table import RUNNERS, refusals

# Two bundles at a time: one waits for its shard's last images while the other keeps the model busy.
DATAFLOW_NEEDS = {
    "project": "the id of a Google Cloud project",
    "region": "a region of Google Cloud, such as europe-west4",
    "temp_location": "a gs:// URI",
    "sdk_container_image": "the image of deploy/: Beam's own has neither TensorFlow nor libraries that go with it",
}
LOCAL_DEFAULTS = {"direct_num_workers": 2, "direct_running_mode": "in_memory"}


class PortableRunner(NamedJobs, portable_runner.PortableRunner):
    """Beam's, but jobs have names and options are checked."""


class FlinkRunner(NamedJobs, flink_runner.FlinkRunner):
    """Beam's, but jobs have names and options are checked."""


class PrismRunner(NamedJobs, prism_runner.PrismRunner):
    """Beam's, but jobs have names and options are checked."""


def runner_and_options(
    name: str, options: Mapping[str, Any], job_name: str | None = None
) -> tuple[PipelineRunner, PipelineOptions]:
    """The Beam runner `name` and the options to run a pipeline with.

    Args:
        name: as in the config.
        options: pipeline options, as in the config.
        job_name: what a runner with jobs is to call this one; None leaves it to the runner.

    Raises:
        UsageError: an option that Beam does not know, or that loses or hangs data; or what the runner needs is not
            there.
    """
    if name not in RUNNERS:
        raise UsageError(f"runner.name: {name!r} is not supported; it must be one of {', '.join(RUNNERS)}")
    for option, problem in refusals(options):
        raise UsageError(f"runner.options.{option}: {problem}")
    runner, parsed = _KINDS[name].make(options)
    if job_name is not None:
        parsed.view_as(GoogleCloudOptions).job_name = job_name
    return runner, parsed


def _direct(options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    check_known(options)
    parsed = PipelineOptions.from_dictionary({**LOCAL_DEFAULTS, **options})
    # Beam's own DirectRunner would first try Prism, whose binary it fetches from the network without a time-out.
    encoded = JobServiceHandle.encode_pipeline_options(parsed.get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return fn_runner.FnApiRunner(provision_info=provision), parsed


def _portable(options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    if not options.get("job_endpoint"):
        raise UsageError("runner.options.job_endpoint: missing; it must be the host:port of a Beam job service")
    return PortableRunner(options), PipelineOptions.from_dictionary(dict(options))


def _flink(options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    return FlinkRunner(options), PipelineOptions.from_dictionary(flink_options(options))


def _prism(options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    return PrismRunner(options), PipelineOptions.from_dictionary(prism_options(options))


def _dataflow(options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    check_known(options)
    try:
        for module in ("google.auth", "google.cloud.dataflow", "google.cloud.storage"):
            importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"runner.name: DataflowRunner needs an extra that is not installed ({error}): pip install 'hublabel[gcp]'"
        ) from None
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    check_dataflow(options)
    if not options.get("no_auth"):
        _check_credentials()
    given = dict(options)
    if "setup_file" in given:  # Beam changes to its folder, and so needs one
        given["setup_file"] = os.path.abspath(given["setup_file"])
    return DataflowRunner(), PipelineOptions.from_dictionary(given)


def check_dataflow(options: Mapping[str, Any]) -> None:
    """See that what a job cannot do without is given: Beam misses some of it only after minutes.

    Raises:
        UsageError: naming the first option that is missing.
    """
    for name, what in DATAFLOW_NEEDS.items():
        if not options.get(name):
            raise UsageError(f"runner.options.{name}: missing; it must be {what}")


def _check_credentials() -> None:
    """Without credentials Beam tries on for minutes."""
    auth, errors = (importlib.import_module(f"google.auth{name}") for name in ("", ".exceptions"))
    try:
        auth.default()
    except errors.DefaultCredentialsError as error:
        raise UsageError(
            f"runner.name: no credentials for Dataflow on this machine ({error}); get some with "
            "`gcloud auth application-default login`, or see what would be sent with --dry-run"
        ) from None


@dataclass(frozen=True)
class _Kind:
    """What there is to know of a runner.

    Attributes:
        make: the runner and its options, from the config's.
        job: the job that came of a submission; None for a runner without jobs.
        find: the job of a name or id, from the config's options; None for a runner without jobs.
    """

    make: Callable[[Mapping[str, Any]], tuple[PipelineRunner, PipelineOptions]]
    job: Callable[[Any], RemoteJob] | None = None
    find: Callable[[Mapping[str, Any], str, str | None], RemoteJob | None] | None = None


def _service_job(result: Any) -> RemoteJob:
    return ServiceJob(result._job_service, result._job_id)


def _dataflow_job(result: Any) -> RemoteJob:
    return DataflowJob(result._runner.dataflow_client, result.job_id())


_KINDS = {
    "DirectRunner": _Kind(_direct),
    "FlinkRunner": _Kind(_flink, _service_job, find_flink_job),
    "DataflowRunner": _Kind(_dataflow, _dataflow_job, find_dataflow_job),
    "PortableRunner": _Kind(_portable, _service_job, find_service_job),
    "PrismRunner": _Kind(_prism, _service_job, find_service_job),
}


def submitted(name: str, result: Any) -> RemoteJob:
    """The job that came of running a pipeline on the remote runner `name`."""
    make = _KINDS[name].job
    assert make is not None
    return make(result)


def find_job(name: str, options: Mapping[str, Any], job: str, job_id: str | None) -> RemoteJob | None:
    """The job named `job`, or with this id where one is known; None when the remote runner `name` knows none.

    Raises:
        NoAnswerError: the runner does not answer.
    """
    find = _KINDS[name].find
    assert find is not None
    return find(options, job, job_id)
