import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.plan import write_plan
from pipeline.verify_parts import AGAIN
from tests.outputs import MadeOutput, data_of, make_output
from tests.pipeline.verifying import column, flip, image_problems, problems_of, read_made


@pytest.fixture
def made(tmp_path: Path) -> MadeOutput:
    return make_output(tmp_path / "out")


def test_every_truncation_of_a_part_is_noticed(made: MadeOutput) -> None:
    data = made.part(1).read_bytes()
    for size in (0, 3, len(data) // 2, len(data) - 1):
        made.part(1).write_bytes(data[:size])
        found = problems_of(made)
        assert len(found) == 1
        assert found[0].startswith("parts: predictions/00000/part-00001.parquet: not a readable Parquet file")


def test_a_flipped_bit_in_a_part_is_noticed_or_changes_nothing(made: MadeOutput) -> None:
    """The footer stays sound: only reading the rows finds it. Nobody reads the statistics in a page's header."""
    whole = made.part(1).read_bytes()
    rows = pq.read_table(made.part(1), partitioning=None).to_pylist()
    end_of_pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = 0
    for offset in range(30, end_of_pages, 97):
        flip(made.part(1), offset)
        if problems_of(made):
            noticed += 1
        else:
            assert pq.read_table(made.part(1), partitioning=None).to_pylist() == rows
        made.part(1).write_bytes(whole)
    assert noticed > 10
    assert problems_of(made) == []


def test_a_part_under_another_shards_name(made: MadeOutput) -> None:
    shutil.copy(made.part(0), made.part(1))
    assert problems_of(made) == [f"parts: predictions/00000/part-00001.parquet: it holds another shard's rows; {AGAIN}"]


def test_a_parquet_file_that_is_not_ours(made: MadeOutput) -> None:
    pq.write_table(pa.table({"row": [4, 5, 6, 7]}), made.part(1))
    assert problems_of(made) == [
        f"parts: predictions/00000/part-00001.parquet: not written by hublabel: its footer lacks our metadata; {AGAIN}"
    ]


DAMAGES: dict[str, tuple[Callable[[pa.Table], pa.Table], list[str]]] = {
    "a row is missing": (
        lambda table: table.slice(1),
        ["missing: row 4", "it has 3 rows, and its shard 4"],
    ),
    "a row is double": (
        lambda table: pa.concat_tables([table, table.slice(3)]),
        ["there more than once: row 7", "it has 5 rows, and its shard 4"],
    ),
    "a row stands for another": (
        column("row", lambda _: [4, 5, 5, 7]),
        ["missing: row 6", "there more than once: row 5"],
    ),
    "a row of another shard": (
        column("row", lambda _: [4, 5, 6, 9]),
        ["missing: row 7", "not of this shard: row 9"],
    ),
    "another order": (lambda table: table.take([1, 0, 2, 3]), ["its rows are not in the plan's order"]),
    "another uri": (column("uri", lambda uris: ["x", *uris[1:]]), ["uri is not the plan's: row 4"]),
    "labels of neighbours": (
        column("uri", lambda uris: [uris[1], uris[0], *uris[2:]]),
        ["uri is not the plan's: 2 rows, the first of them 4"],
    ),
    "ok without a sha256": (column("sha256", lambda texts: [None, *texts[1:]]), ["ok, but without sha256: row 4"]),
    "ok without a label": (column("label_index", lambda old: [*old[:3], None]), ["ok, but without label_index: row 7"]),
    "a score of NaN": (
        column("score", lambda old: [*old[:3], float("nan")]),
        ["ok, but with a score that is no number: row 7"],
    ),
    "ok with an error": (column("error_type", lambda old: [*old[:3], "x"]), ["ok, but with error_type: row 7"]),
    "an unknown status": (
        column("status", lambda old: ["done", *old[1:]]),
        ["1 rows have a status other than ok and failed"],
    ),
    "failed without a reason": (
        column("status", lambda old: ["failed", *old[1:]]),
        [
            *(f"failed, but without {name}: row 4" for name in ("error_stage", "error_type", "error_message")),
            *(f"failed, but with {name}: row 4" for name in ("label_index", "score", "top_k")),
        ],
    ),
    "a column is missing": (
        lambda table: table.drop_columns(["sha256"]),
        ["it lacks the column sha256", "its columns are not those of predictions/00000/part-00000.parquet"],
    ),
    "a column too many": (
        lambda table: table.append_column("extra", table["row"]),
        ["its columns are not those of predictions/00000/part-00000.parquet"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows(made: MadeOutput, damage: str) -> None:
    change, expected = DAMAGES[damage]
    table_rows = {"a row is missing": 3, "a row is double": 5}.get(damage, 4)
    failed = 1 if damage == "failed without a reason" else 0
    made.rewrite(1, change, rows=table_rows, failed=failed)
    found = [problem.partition("part-00001.parquet: ")[2] for problem in problems_of(made)]
    assert sorted(found) == sorted(expected)


def test_a_footer_that_is_not_of_this_run(made: MadeOutput) -> None:
    for footer, problem in (
        ({"plan": "other"}, "it belongs to another plan"),
        ({"run": "other"}, "it was made with other settings (model, preprocessing, labels or libraries)"),
        ({"failed": 2}, "0 rows have failed, and its footer says 2"),
    ):
        made.rewrite(1, lambda table: table, **footer)
        assert problems_of(made) == [f"rows: predictions/00000/part-00001.parquet: {problem}"]
    made.rewrite(1, lambda table: table, rows=9)
    assert problems_of(made) == [
        f"parts: predictions/00000/part-00001.parquet: 4 rows where its footer says 9; {AGAIN}"
    ]


def test_stripped_uris_are_compared_with_the_plans(tmp_path: Path) -> None:
    made = make_output(tmp_path / "out", uri="stripped")
    assert problems_of(made) == []
    made.rewrite(1, column("uri", lambda uris: [f"{uri}?sig=1" for uri in uris]))
    assert problems_of(made) == [
        "rows: predictions/00000/part-00001.parquet: uri is not the plan's: 4 rows, the first of them 4"
    ]


def test_carried_columns_and_what_is_read_for_a_row(made: MadeOutput) -> None:
    """Columns of the input are compared with the plan's, NaN is NaN; what only reading needs is in the plan alone."""
    uris = [f"https://user:pw@host/{number}.png?sig={number}" for number in range(10)]
    columns = {
        "uri": pa.array(uris),
        "angle": pa.array([float("nan"), *map(float, range(9))]),
        "_hublabel_source": pa.array([None] * 9 + ["https://mirror/9.png"]),
        "_hublabel_error": pa.array([None] * 10, pa.string()),
    }
    write_plan(iter([pa.record_batch(columns)]), made.path, batch_size=2, shard_size=4, left_out=Counter())
    found = [problem for problem in problems_of(made) if "lacks the column angle" in problem]
    assert len(found) == 3
    for index, angles in enumerate([[float("nan"), 0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0, 9.0]]):
        made.rewrite(index, lambda table, angles=angles: table.add_column(2, "angle", pa.array(angles)))
    assert problems_of(made) == ["rows: predictions/00000/part-00002.parquet: angle is not the plan's: row 9"]
    made.rewrite(2, column("angle", lambda _: [7.0, 8.0]))
    read: list[str] = []

    def noting(uri: str, max_bytes: int) -> bytes:
        read.append(uri)
        return data_of(9) if "mirror" in uri else read_made(uri, max_bytes)

    assert image_problems(made, noting, 100) == []
    assert "https://mirror/9.png" in read
    assert len(read) == 9
