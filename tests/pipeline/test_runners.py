import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, SetupOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from pipeline.errors import UsageError
from pipeline.runners import runner_and_options


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
    with pytest.raises(UsageError, match=r"runner.name: 'Nimbus' is not supported; it must be DirectRunner"):
        runner_and_options("Nimbus", {})
