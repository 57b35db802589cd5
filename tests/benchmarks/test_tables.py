"""What the benchmarks compute from their measurements, and where they write it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import photos, tables
from benchmarks.commands import agreement, labels_below
from benchmarks.measured import Cost, steady_rate
from benchmarks.memory import memory_table
from benchmarks.targets import TARGETS, verdict, write_target
from benchmarks.whole_command import in_turn, ratio_table

MEBIBYTE = 2**20


def test_a_table_is_replaced_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:a -->\nold \\1\n<!-- end:a -->\n<!-- bench:b -->\n<!-- end:b -->\nafter\n")
    tables.replace_table("a", "new \\g<0>", page)
    tables.replace_table("a", "| 1 |", page)
    tables.replace_table("b", "| 2 |", page)
    assert page.read_text() == (
        "before\n<!-- bench:a -->\n| 1 |\n<!-- end:a -->\n<!-- bench:b -->\n| 2 |\n<!-- end:b -->\nafter\n"
    )
    with pytest.raises(ValueError, match=r"no markers <!-- bench:c --> \.\.\. <!-- end:c -->"):
        tables.replace_table("c", "", page)


def test_a_value_is_replaced_within_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("| a | <!-- bench:target-decode -->?<!-- end:target-decode --> | why |\n")
    write_target("decode", 1.75, page)
    assert page.read_text() == (
        "| a | <!-- bench:target-decode -->1.75, **missed**<!-- end:target-decode --> | why |\n"
    )


def test_targets_are_bounds_from_below_or_above() -> None:
    assert verdict("whole-openvino", 1.5) == "1.50, met"
    assert verdict("whole-openvino", 1.49) == "1.49, **missed**"
    assert verdict("overhead", 0.3) == "0.30 ms, met"
    assert verdict("plan-memory", 1001) == "1,001 MB, **missed**"
    assert verdict("memory", -20) == "-20 MB, met"


@pytest.mark.parametrize(
    "name", ["whole-command", "memory", "model-calls", "stages", "decode", *(f"target-{name}" for name in TARGETS)]
)
def test_the_page_has_a_place_for_each_table(name: str) -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- bench:{name} -->") == text.count(f"<!-- end:{name} -->") == 1


def test_steady_rate_leaves_out_start_and_end() -> None:
    starting = [(1, 5.0), (10, 10.0)]
    steady = [(10 + 10 * number, 10.0 + number) for number in range(1, 9)]
    assert steady_rate([*starting, *steady, (100, 60.0)]) == 10.0


def cost(seconds: float, rate: float, mebibytes: int) -> Cost:
    return Cost(seconds, 2 * seconds, seconds / 10, rate, mebibytes * MEBIBYTE, (mebibytes + 100) * MEBIBYTE)


def test_ratios_are_of_the_rounds_and_above_one_when_hublabel_is_better() -> None:
    costs = {
        "tf.data script": [cost(20, 100, 1), cost(30, 100, 1), cost(9, 90, 1)],
        "thread-pool script": [cost(40, 50, 1), cost(30, 60, 1), cost(20, 45, 1)],
        "hublabel": [cost(10, 150, 1), cost(30, 120, 1), cost(10, 90, 1)],
    }
    lines = ratio_table(costs).splitlines()
    assert lines[2] == "| whole command, s | 20.0 | 30.0 | 10.0 |"
    assert lines[3] == "| ... better than the tf.data script by |  |  | **1.00** (0.90 to 2.00) |"
    assert lines[4] == "| ... better than the thread-pool script by |  |  | **2.00** (1.00 to 4.00) |"
    assert lines[8] == "| steady state, images/s | 100.0 | 50.0 | 120.0 |"
    assert lines[9] == "| ... better than the tf.data script by |  |  | **1.20** (1.00 to 1.50) |"


def test_each_side_begins_a_round_in_turn() -> None:
    assert [in_turn(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_one_round_has_no_spread() -> None:
    assert tables.ratio([(3.0, 2.0)]) == "**1.50**"


def test_memory_in_mebibytes() -> None:
    text = memory_table([(500, cost(1, 1, 1000), cost(1, 1, 900))])
    assert text.splitlines()[2] == "| 500 photos | 1,000 | 900 | 1,000 | -100 |"


def test_agreement_is_by_photo(tmp_path: Path) -> None:
    part = tmp_path / "hublabel" / "predictions" / "00000" / "part.parquet"
    part.parent.mkdir(parents=True)
    pq.write_table(pa.table({"uri": ["/x/a.jpg", "/x/b.jpg"], "label": ["cat", "dog"]}), part)
    (tmp_path / "hublabel" / "plan").mkdir()
    pq.write_table(pa.table({"uri": ["/x/a.jpg", "/x/b.jpg"]}), tmp_path / "hublabel" / "plan" / "plan.parquet")
    inside = tmp_path / "script" / "labels.parquet" / "a.parquet"  # as Ray writes it
    inside.parent.mkdir(parents=True)
    pq.write_table(pa.table({"uri": ["/y/b.jpg", "/y/a.jpg"], "label": ["dog", None]}), inside)
    ours, theirs = labels_below(tmp_path / "hublabel"), labels_below(tmp_path / "script")
    assert ours == {"a.jpg": "cat", "b.jpg": "dog"}
    assert theirs == {"a.jpg": None, "b.jpg": "dog"}
    assert agreement(ours, theirs) == 0.5
    with pytest.raises(RuntimeError, match="one labelled 2 photos, the other 1"):
        agreement(ours, {"b.jpg": "dog"})


def test_photos_are_generated_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "SAMPLE", tmp_path / "nowhere")
    monkeypatch.setattr(photos, "DIFFERENT", 3)
    files = sorted(photos.photo_folder(tmp_path / "photos", 7).iterdir())
    assert len(files) == 7
    assert len({file.resolve() for file in files}) == 3
    assert [Image.open(file).size for file in files[:3]] == [(500, 375), (500, 333), (375, 500)]
    assert all(50_000 < file.stat().st_size < 250_000 for file in files)
