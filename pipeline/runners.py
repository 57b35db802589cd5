"""From the config's runner section to a Beam runner and its options; nothing else knows runner names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner

from pipeline.errors import UsageError

# Two bundles at a time: one waits for its shard's last images while the other keeps the model busy.
LOCAL_DEFAULTS = {"direct_num_workers": 2, "direct_running_mode": "in_memory"}

UNSAFE_MODES = {
    "multi_threading": "loses elements silently with Beam 2.77",
    "multi_processing": "hangs for ever with Beam 2.77 when a worker process dies",
}


def runner_and_options(name: str, options: Mapping[str, Any]) -> tuple[PipelineRunner, PipelineOptions]:
    """The Beam runner `name` and the options to run a pipeline with.

    Raises:
        UsageError: an option that Beam does not know, or that loses or hangs data.
    """
    _check_options(options)
    if name != "DirectRunner":
        raise UsageError(f"runner.name: {name!r} is not supported; it must be DirectRunner")
    parsed = PipelineOptions.from_dictionary({**LOCAL_DEFAULTS, **options})
    # Beam's own DirectRunner would first try Prism, whose binary it fetches from the network without a time-out.
    encoded = JobServiceHandle.encode_pipeline_options(parsed.get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return fn_runner.FnApiRunner(provision_info=provision), parsed


def _check_options(options: Mapping[str, Any]) -> None:
    mode = options.get("direct_running_mode")
    if mode in UNSAFE_MODES:
        raise UsageError(
            f"runner.options.direct_running_mode: {mode!r} {UNSAFE_MODES[mode]}; it must be in_memory, "
            "which runs direct_num_workers bundles at a time"
        )
    experiments = options.get("experiments") or []
    for experiment in [experiments] if isinstance(experiments, str) else experiments:
        if str(experiment).startswith("data_buffer_time_limit_ms"):
            message = "loses elements silently with Beam 2.77; remove it"
            raise UsageError(f"runner.options.experiments: {experiment!r} {message}")
    known = set(PipelineOptions([]).get_all_options())
    for name in options:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UsageError(f"runner.options.{name}: Beam has no such pipeline option{hint}")
