"""Jobs on a Flink cluster that nobody can attach to, by what Flink's REST interface answers (as Flink 1.19 does)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pipeline.remote_jobs import NoAnswerError
from pipeline.runners import find_job
from tests.http_server import ImageServer

JOBS = [
    {"jid": "a1", "name": "hublabel-1", "state": "CANCELED"},
    {"jid": "b2", "name": "hublabel-1", "state": "RESTARTING"},
    {"jid": "c3", "name": "hublabel-2", "state": "RUNNING"},
    {"jid": "d4", "name": "hublabel-3", "state": "FINISHED"},
]


@pytest.fixture
def flink() -> Iterator[ImageServer]:
    with ImageServer().running() as server:
        server.answers["/jobs/overview"] = json.dumps({"jobs": JOBS}).encode()
        yield server


def test_a_job_is_found_by_its_name_and_cancelled(flink: ImageServer) -> None:
    job = find_job("FlinkRunner", {"flink_master": f"127.0.0.1:{flink.port}"}, "hublabel-1", "id of Beam's job server")
    assert job is not None
    assert job.id == "b2"
    flink.answers["/jobs/b2"] = flink.in_turn(b'{"state": "RUNNING"}', b"{}", b'{"state": "CANCELED"}')
    assert job.state() == "RUNNING"
    job.cancel()
    assert job.state() == "CANCELLED"
    assert [path for path, _ in flink.requests] == ["/jobs/overview", "/jobs/b2", "/jobs/b2?mode=cancel", "/jobs/b2"]


@pytest.mark.parametrize("name", ["hublabel-3", "hublabel-4"])
def test_one_that_has_ended_or_never_was_is_none(flink: ImageServer, name: str) -> None:
    assert find_job("FlinkRunner", {"flink_master": flink.url}, name, "x") is None


def test_a_flink_inside_the_job_server_went_with_it() -> None:
    for options in ({}, {"flink_master": "[local]"}):
        assert find_job("FlinkRunner", options, "hublabel-1", "x") is None


def test_a_cluster_that_does_not_answer_may_have_the_job(flink: ImageServer) -> None:
    for answer in (None, b"<html>a proxy</html>"):
        flink.answers = {} if answer is None else {"/jobs/overview": answer}
        with pytest.raises(NoAnswerError, match=r"flink_master: Flink does not answer GET .*delete job.json"):
            find_job("FlinkRunner", {"flink_master": flink.url}, "hublabel-1", "x")
    with pytest.raises(NoAnswerError, match="Flink does not answer"):
        find_job("FlinkRunner", {"flink_master": "127.0.0.1:1"}, "hublabel-1", "x")
