"""How the tables of growth come of what was measured."""

from benchmarks.growth import counts_table, sizes_table
from benchmarks.large_runs import Planned, Resumed, large_table
from benchmarks.measured import Cost

MEBIBYTE = 2**20


def cost(seconds: float, cpu_seconds: float, mebibytes: int) -> Cost:
    return Cost(seconds, cpu_seconds, seconds / 2, 100.0, mebibytes * 1_000_000, mebibytes * MEBIBYTE)


def test_an_image_costs_what_more_of_them_cost_more() -> None:
    lines = counts_table([(500, cost(8, 6.0, 800)), (5_000, cost(10, 7.8, 810))]).splitlines()
    assert lines[2] == "| 500 | 8.0 | 4.0 | 100 |  | 800 |"
    assert lines[3] == "| 5,000 | 10.0 | 5.0 | 100 | 0.40 | 810 |"


def test_sizes_are_compared_with_the_usual_one_round_by_round() -> None:
    found = {
        32: [(cost(10, 1, 900), 0.5), (cost(20, 1, 900), 0.7)],
        128: [(cost(8, 1, 910), 0.2), (cost(10, 1, 920), 0.3)],
    }
    lines = sizes_table("shard size", found).splitlines()
    assert lines[2] == "| 32 | 15.0 | **1.00** (1.00 to 1.00) | 7.5 | 900 | 0.60 |"
    assert lines[3] == "| 128 | 9.0 | **1.62** (1.25 to 2.00) | 4.5 | 915 | 0.25 |"


def test_large_runs_in_seconds_and_megabytes() -> None:
    planned = Planned(10_000_000, cost(41.25, 60, 700), 520_000_000, 98_000_000)
    lines = large_table(planned, Resumed(10_000, 2.04, 6.0, 12.0)).splitlines()
    assert lines[2] == "| planning a text manifest of 10,000,000 URIs | 41.2 s |"
    assert lines[3] == "| ... its peak memory | 700 MB |"
    assert lines[4] == "| ... the manifest, and its plan | 520 MB, 98 MB |"
    assert lines[5] == "| resuming over 10,000 parts: command to what is left | 2.0 s |"
