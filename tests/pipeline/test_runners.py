import os
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PrismRunnerOptions,
    SetupOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from pipeline.errors import UsageError
from pipeline.runner_table import RUNNERS, ends_with_launcher
from pipeline.runners import runner_and_options
from transforms.programs import program


def test_the_local_runner_is_pinned() -> None:
    runner, options = runner_and_options("DirectRunner", {})
    assert type(runner) is FnApiRunner
    direct = options.view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (2, "in_memory")


def test_options_of_the_config_win() -> None:
    _, options = runner_and_options("DirectRunner", {"direct_num_workers": 1, "save_main_session": True})
    assert options.view_as(DirectOptions).direct_num_workers == 1
    assert options.view_as(SetupOptions).save_main_session is True


def test_the_workers_get_the_options() -> None:
    """Beam's DirectRunner passes them as provision info; without it the harness falls back to defaults."""
    runner, options = runner_and_options("DirectRunner", {"direct_num_workers": 3})
    encoded = runner._provision_info.provision_info.pipeline_options
    assert encoded["beam:option:direct_num_workers:v1"] == "3"
    assert encoded["beam:option:direct_running_mode:v1"] == "in_memory"
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        found = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(lambda number: number * 2)
        assert_that(found, equal_to([2, 4, 6]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"direct_running_mode": "multi_threading"},
            "runner.options.direct_running_mode: 'multi_threading' loses elements silently with Beam 2.77; it must be "
            "in_memory, which runs direct_num_workers bundles at a time",
        ),
        (
            {"direct_running_mode": "multi_processing"},
            "runner.options.direct_running_mode: 'multi_processing' hangs for ever with Beam 2.77 when a worker "
            "process dies; it must be in_memory, which runs direct_num_workers bundles at a time",
        ),
        (
            {"experiments": ["use_x", "data_buffer_time_limit_ms=100"]},
            "runner.options.experiments: 'data_buffer_time_limit_ms=100' loses elements silently with Beam 2.77; "
            "remove it",
        ),
        (
            {"experiments": "data_buffer_time_limit_ms=1"},
            "runner.options.experiments: 'data_buffer_time_limit_ms=1' loses elements silently with Beam 2.77; "
            "remove it",
        ),
        (
            {"direct_num_worker": 3},
            "runner.options.direct_num_worker: Beam has no such pipeline option; did you mean direct_num_workers?",
        ),
        ({"zzzzqqqq": 3}, "runner.options.zzzzqqqq: Beam has no such pipeline option"),
    ],
)
def test_options_that_lose_or_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        runner_and_options("DirectRunner", options)
    assert str(caught.value) == said
    assert caught.value.exit_code == 2


def test_other_experiments_pass() -> None:
    _, options = runner_and_options("DirectRunner", {"experiments": ["use_x"]})
    assert "use_x" in options.get_all_options()["experiments"]


def test_another_runner_is_refused() -> None:
    with pytest.raises(UsageError, match=r"runner.name: 'Nimbus' is not supported; it must be one of Dir"):
        runner_and_options("Nimbus", {})


EMBEDDED = "beam:env:embedded_python_grpc:v1"
SUBPROCESS = "beam:env:harness_subprocess_python:v1"


@pytest.mark.parametrize("name", [name for name in RUNNERS if name != "DirectRunner"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("experiments", "use_x,data_buffer_time_limit_ms=100"),
        ("direct_running_mode", "multi_threading"),
        ("environment_type", EMBEDDED),
        ("environment_type", SUBPROCESS),
    ],
)
def test_what_loses_or_hangs_data_is_refused_for_every_runner(name: str, option: str, value: str) -> None:
    why = "hangs for ever" if value == SUBPROCESS else "loses elements silently"
    with pytest.raises(UsageError, match=rf"^runner\.options\.{option}: .* {why} with Beam 2\.77"):
        runner_and_options(name, {option: value})


def test_a_portable_runner_needs_a_job_service() -> None:
    with pytest.raises(UsageError, match=r"runner\.options\.job_endpoint: missing; it must be the host:port"):
        runner_and_options("PortableRunner", {})


def test_prism_is_never_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"PrismRunner needs Prism, which is not on this machine; get it with Go: "):
        runner_and_options("PrismRunner", {})
    for place in ("prism", "https://github.com/apache/beam/releases/tag/v2.77.0"):
        with pytest.raises(UsageError, match=r"prism_location: '.*' is not a file on this machine; get it with Go: "):
            runner_and_options("PrismRunner", {"prism_location": place})


@pytest.mark.parametrize("place", [".apache_beam/cache/prism/bin/prism", "bin/prism"])
def test_a_prism_on_this_machine_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    binary = tmp_path / place
    binary.parent.mkdir(parents=True)
    binary.touch(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    _, options = runner_and_options("PrismRunner", {})
    assert options.view_as(PrismRunnerOptions).prism_location == str(binary)


def test_a_prism_that_runs_needs_no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    _, options = runner_and_options("PrismRunner", {"job_endpoint": "localhost:8073"})
    assert options.view_as(PrismRunnerOptions).prism_location is None


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with Java, and nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("HUBLABEL_FLINK", raising=False)
    (tmp_path / "java").touch(0o755)
    return tmp_path / "java"


def test_the_job_server_of_flink_is_never_fetched(java: Path) -> None:
    with pytest.raises(UsageError) as caught:
        runner_and_options("FlinkRunner", {"flink_master": "[local]"})
    assert str(caught.value) == (
        f"runner.name: FlinkRunner needs Beam's job server, and there is none at "
        f"'{java.parent}/.cache/hublabel/flink/job-server.jar'; get one with deploy/flink/fetch of hublabel's source "
        "(it needs Maven), or name the address of one that runs in runner.options.job_endpoint"
    )
    for place in ("server.jar", "https://repo1.maven.org/maven2/server.jar"):
        with pytest.raises(
            UsageError, match=rf"flink_job_server_jar: '{place[:5]}.*' is not a file on this machine; get"
        ):
            runner_and_options("FlinkRunner", {"flink_job_server_jar": place})


@pytest.mark.parametrize("place", ["given", "variable", "cache"])
def test_a_job_server_on_this_machine_is_found(java: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    folder = java.parent / (".cache/hublabel/flink" if place == "cache" else "elsewhere")
    folder.mkdir(parents=True)
    jar = folder / "job-server.jar"
    jar.touch()
    if place == "variable":
        monkeypatch.setenv("HUBLABEL_FLINK", str(folder))
    _, options = runner_and_options("FlinkRunner", {"flink_job_server_jar": str(jar)} if place == "given" else {})
    assert options.view_as(FlinkRunnerOptions).flink_job_server_jar == str(jar)
    java.unlink()
    with pytest.raises(UsageError, match="starts Beam's job server with 'java', which is not on the PATH"):
        runner_and_options("FlinkRunner", {"flink_job_server_jar": str(jar)})


def test_a_job_server_that_runs_needs_neither_jar_nor_java(java: Path) -> None:
    java.unlink()
    _, options = runner_and_options("FlinkRunner", {"job_endpoint": "localhost:8099"})
    assert options.view_as(FlinkRunnerOptions).flink_job_server_jar is None


@pytest.mark.parametrize("name", ["FlinkRunner", "PrismRunner"])
def test_a_job_service_that_is_started_here_ends_with_this_process(java: Path, name: str) -> None:
    (java.parent / "prism").write_text("#!/bin/sh")
    (java.parent / "job-server.jar").touch()
    places = {
        "FlinkRunner": {"flink_job_server_jar": str(java.parent / "job-server.jar")},
        "PrismRunner": {"experiments": ["disable_prism_server_singleton"]},
    }
    (java.parent / "prism").chmod(0o755)
    runner, options = runner_and_options(name, places[name])
    command, _ = runner.default_job_server(options)._job_server.subprocess_cmd_and_endpoint()
    ended_with_us = program("pipeline.end_with_parent", str(os.getpid()))
    assert command[: len(ended_with_us)] == ended_with_us
    assert Path(command[len(ended_with_us)]).name == {"FlinkRunner": "java", "PrismRunner": "prism"}[name]


@pytest.mark.parametrize(
    ("name", "options", "ends"),
    [
        ("FlinkRunner", {"flink_master": "[local]"}, True),
        ("FlinkRunner", {"flink_master": "localhost:8081", "environment_type": "EXTERNAL"}, True),
        ("FlinkRunner", {"job_endpoint": "localhost:8099", "environment_type": "EXTERNAL"}, False),
        ("FlinkRunner", {"job_endpoint": "localhost:8099", "environment_type": "LOOPBACK"}, True),
        ("PrismRunner", {"environment_type": "EXTERNAL"}, True),
        ("PrismRunner", {"job_endpoint": "localhost:8073", "environment_type": "EXTERNAL"}, False),
        ("PortableRunner", {"job_endpoint": "localhost:1", "environment_type": "DOCKER"}, False),
        ("PortableRunner", {"job_endpoint": "localhost:1", "environment_type": "LOOPBACK"}, True),
        ("DataflowRunner", {}, False),
    ],
)
def test_which_jobs_end_with_their_launcher(name: str, options: dict[str, str], ends: bool) -> None:
    assert ends_with_launcher(name, options) is ends


def test_a_job_has_the_name_it_is_given() -> None:
    _, options = runner_and_options("PortableRunner", {"job_endpoint": "localhost:1"}, "hublabel-1")
    assert options.view_as(GoogleCloudOptions).job_name == "hublabel-1"
