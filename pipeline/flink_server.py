"""Where Beam's job server for Flink is, when a run starts one for itself: Beam would fetch it without a time-out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

JARS = "~/.cache/hublabel/flink"  # of deploy/flink/fetch; $HUBLABEL_FLINK is another
GET_IT = (
    "get one with deploy/flink/fetch of hublabel's source (it needs Maven), or name the address of one that runs in "
    "runner.options.job_endpoint"
)


def flink_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a FlinkRunner, with the place of a job server's jar that is on this machine.

    Raises:
        UsageError: there is none, or no Java to run it.
    """
    if options.get("job_endpoint"):  # a job server that runs already
        return dict(options)
    given = options.get("flink_job_server_jar")
    jar = Path(given) if given else Path(os.environ.get("HUBLABEL_FLINK", JARS)).expanduser() / "job-server.jar"
    if not jar.is_file():
        raise UsageError(
            f"runner.options.flink_job_server_jar: {str(jar)!r} is not a file on this machine; {GET_IT}"
            if given
            else f"runner.name: FlinkRunner needs Beam's job server, and there is none at {str(jar)!r}; {GET_IT}"
        )
    java = options.get("job_server_java_launcher", "java")
    if shutil.which(java) is None:
        raise UsageError(f"runner.name: FlinkRunner starts Beam's job server with {java!r}, which is not on the PATH")
    return {**options, "flink_job_server_jar": str(jar)}
