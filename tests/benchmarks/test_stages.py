"""What the stages of a run add up to."""

import pytest

from benchmarks.stages import REST, RUN, SUM, overhead, stages_table, with_rest

STAGES = {"plan": 0.01, "decode": 1.2, "model": 6.0, "label": 0.02, "write": 0.03}


def test_the_rest_is_what_the_stages_leave_of_a_run_with_its_plan() -> None:
    times = with_rest(STAGES, 7.5)
    assert times[SUM] == pytest.approx(7.26)
    assert times[RUN] == pytest.approx(7.51)
    assert times[REST] == pytest.approx(0.25)
    assert overhead(times) == pytest.approx(0.25 + 0.01 + 0.02 + 0.03)


def test_the_table_has_a_limit_where_there_is_one() -> None:
    tiny = dict.fromkeys(STAGES, 0.01)
    text = stages_table({"plan": 0.0004, "decode": 1.0, "model": 6.0}, with_rest(STAGES, 7.5), with_rest(tiny, 0.2))
    lines = text.splitlines()
    assert lines[2] == "| plan | 0.000 | 0.010 |  | 0.010 |"
    assert lines[3] == "| decode | 1.000 | 1.200 | 1.20 | 0.010 |"
    assert lines[5] == "| label |  | 0.020 |  | 0.010 |"
    assert lines[-1] == "| **hublabel's own**: plan, label, write, and the rest |  | 0.310 |  | **0.190** |"
