"""Whether workers elsewhere can reach what a run reads and writes: told before anything is planned or submitted."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.model_staging import model_place
from pipeline.runner_table import DATAFLOW, workers_are_here
from transforms.read import uri_scheme
from transforms.storage import is_remote

SHARED = "an absolute path on a disk that launcher and workers share"


def check_reachable(config: RunConfig) -> None:
    """See that workers can reach the output and the model, as far as the config tells.

    Raises:
        UsageError: naming the key, and what it must be.
    """
    if workers_are_here(config.runner.name, config.runner.options):
        return
    if config.runner.name == DATAFLOW and not is_remote(config.output.path):
        raise UsageError(
            f"output.path: {config.output.path} is on this machine, and Dataflow's workers are not; it must be a gs:// "
            "or s3:// URI"
        )
    model_place(config)


def check_uris(config: RunConfig, uris: Iterable[str]) -> None:
    """See that workers can reach the images at `uris`, some of the plan's.

    Raises:
        UsageError: naming one they cannot.
    """
    dataflow = config.runner.name == DATAFLOW
    for uri in uris:
        local = uri_scheme(uri) in ("", "file")
        if local and dataflow:
            raise UsageError(
                f"input.path: {uri} is on this machine, and Dataflow's workers are not; it must be gs://, s3:// or http(s)://"
            )
        if not uri_scheme(uri) and not os.path.isabs(uri):
            raise UsageError(f"input.path: {uri} is relative, and workers work elsewhere; it must be a URI or {SHARED}")
