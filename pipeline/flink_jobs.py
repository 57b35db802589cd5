"""Jobs on a Flink cluster whose job server is gone: it was a process of a launcher that was killed.

Nobody can attach to such a job as a Beam job; Flink's REST interface knows it by the name that we gave it, and ends it.
https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/ops/rest_api/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3

from pipeline.job_record import NAME
from pipeline.remote_jobs import PATIENCE, NoAnswerError, RemoteJob, find_service_job
from pipeline.runner_table import OWN_FLINK

STATES = {"FINISHED": "DONE", "CANCELED": "CANCELLED", "FAILED": "FAILED"}  # Flink's words for ends, and Beam's


class FlinkJob:
    """A job on a Flink cluster.

    Args:
        master: the cluster, as in `flink_master`.
        job_id: Flink's.
    """

    def __init__(self, master: str, job_id: str) -> None:
        self.id = job_id
        self._master = master

    def state(self) -> str:
        return STATES.get(_ask(self._master, "GET", f"jobs/{self.id}")["state"], "RUNNING")

    def cancel(self) -> None:
        _ask(self._master, "PATCH", f"jobs/{self.id}?mode=cancel")

    def failure(self) -> str:
        return ""


def find_flink_job(options: Mapping[str, Any], name: str, job_id: str | None) -> RemoteJob | None:
    """The job on the job service that the options name; without one, that of this name that the cluster still runs.

    Raises:
        NoAnswerError: the service, or the cluster, does not answer.
    """
    master = options.get("flink_master", OWN_FLINK[0])
    if options.get("job_endpoint") or master in OWN_FLINK:
        return find_service_job(options, name, job_id)
    jobs = _ask(master, "GET", "jobs/overview")["jobs"]
    found = [job["jid"] for job in jobs if job["name"] == name and job["state"] not in STATES]
    return FlinkJob(master, found[0]) if found else None


def _ask(master: str, method: str, path: str) -> Any:
    url = f"{master.strip().rstrip('/')}/{path}"
    url = url if "://" in url else f"http://{url}"  # as Beam takes it
    try:
        answer = urllib3.request(method, url, timeout=PATIENCE, retries=False)
        if answer.status // 100 == 2:
            return json.loads(answer.data)
        problem = str(answer.status)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        problem = str(error)
    raise NoAnswerError(
        f"runner.options.flink_master: Flink does not answer {method} {url}: {problem}; a job of a launcher that was "
        f"killed may go on there: cancel it there, delete {NAME} in the output, and run the same command again"
    )
