from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.coverage import Coverage
from pipeline.plan import Plan, PlanFile
from transforms.errors import ImageError
from transforms.parts import PartFooter, commit_part, encode_part, part_name
from transforms.records import Columns, Row, Shard, rows_to_table
from transforms.storage import LocalStorage

# Two plan files: shards of 2, 2, 1 rows, then of 2 rows.
PLAN = Plan(
    rows=7, shards=4, shard_size=2, fingerprint="plan", left_out={},
    files=(
        PlanFile("plan/plan-00000.parquet", 3, 5, 2, 1),
        PlanFile("plan/plan-00001.parquet", 1, 2, 2, 1),
    ),
)  # fmt: skip
SHARDS = [Shard(0, 0, 2), Shard(0, 1, 2), Shard(0, 2, 1), Shard(1, 0, 2)]


class CountingStorage(LocalStorage):
    """Notes what is listed and which footers are opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.listed: list[str] = []
        self.opened: list[str] = []

    def list(self, folder: str):
        self.listed.append(folder)
        return super().list(folder)

    def path(self, name: str) -> str:
        if name.endswith(".parquet"):
            self.opened.append(name)
        return super().path(name)


def commit(storage: LocalStorage, shard: Shard, failed: Sequence[int] = (), **footer: object) -> str:
    rows = [Row(position, position, "x") for position in range(shard.rows)]
    for position in failed:
        rows[position].fail(ImageError("read", "not_found", "no such file"))
    values = PartFooter(
        "plan",
        shard.file,
        shard.row_group,
        shard.generation,
        shard.rows,
        len(failed),
        "run",
        {"read": 1.5, "model": 2.0},
    )
    assert commit_part(storage, shard, rows_to_table(rows, Columns(), None, 0, None), replace(values, **footer))
    return part_name(shard)


def fresh(storage: LocalStorage) -> Coverage:
    coverage = Coverage(storage, PLAN, "run")
    coverage.refresh()
    return coverage


def test_nothing_is_covered_at_first(tmp_path: Path) -> None:
    coverage = fresh(LocalStorage(str(tmp_path)))
    assert (coverage.rows, coverage.failed, coverage.shards, coverage.complete) == (0, 0, 0, False)
    assert list(coverage.pending()) == SHARDS


def test_parts_add_up(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    coverage = fresh(storage)
    commit(storage, SHARDS[1], failed=[0])
    commit(storage, SHARDS[3])
    coverage.refresh()
    assert (coverage.rows, coverage.failed, coverage.shards, coverage.complete) == (4, 1, 2, False)
    assert coverage.seconds == {"read": 3.0, "model": 4.0}
    assert list(coverage.pending()) == [SHARDS[0], SHARDS[2]]
    commit(storage, SHARDS[0], failed=[0, 1])
    commit(storage, SHARDS[2])
    coverage.refresh()
    coverage.refresh()
    assert (coverage.rows, coverage.failed, coverage.shards, coverage.complete) == (7, 3, 4, True)
    assert list(coverage.pending()) == []


def test_each_footer_is_read_once_and_full_folders_are_not_listed_again(tmp_path: Path) -> None:
    storage = CountingStorage(tmp_path)
    coverage = fresh(storage)
    for shard in (SHARDS[3], SHARDS[0]):
        commit(storage, shard)
    storage.listed.clear()
    storage.opened.clear()
    coverage.refresh()
    coverage.refresh()
    commit(storage, SHARDS[1])
    storage.opened.remove(part_name(SHARDS[1]))  # the test's own
    while part_name(SHARDS[1]) in storage.opened:
        storage.opened.remove(part_name(SHARDS[1]))
    coverage.refresh()
    assert sorted(storage.opened) == [part_name(shard) for shard in (SHARDS[0], SHARDS[1], SHARDS[3])]
    assert storage.listed == [f"predictions/0000{n}" for n in (0, 1, 0, 0)]


def test_temporary_and_foreign_files_are_not_parts(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    for name in (".tmp-part-00000.parquet-ab", "part-00000.parquet.bak", "notes.txt", "part-0.parquet"):
        storage.replace(f"predictions/00000/{name}", b"x")
    coverage = fresh(storage)
    assert coverage.shards == 0
    assert coverage.damaged == {}


def test_damaged_parts_do_not_count_and_are_mended(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    names = [commit(storage, shard) for shard in SHARDS]
    (tmp_path / names[0]).write_bytes(b"")
    commit_other = encode_part(
        rows_to_table([Row(0, 0, "x")], Columns(), None, 0, None), PartFooter("plan", 9, 9, 0, 1, 0, "r")
    )
    storage.replace(names[1], commit_other)
    coverage = fresh(storage)
    assert coverage.shards == 2
    assert sorted(coverage.damaged) == names[:2]
    said: list[str] = []
    coverage.mend(said.append)
    assert [line.partition(": ")[0] for line in sorted(said)] == names[:2]
    assert all(line.endswith("; its images are labelled again") for line in said)
    assert coverage.damaged == {}
    assert not storage.exists(names[0])
    assert storage.exists(names[2])
    assert list(coverage.pending()) == SHARDS[:2]
    for shard in SHARDS[:2]:
        commit(storage, shard)
    coverage.refresh()
    assert coverage.complete


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "another"}, "it belongs to another plan"),
        ({"rows": 1}, "it belongs to another plan"),
        ({"run": "another"}, "it was made with other settings"),
    ],
)
def test_parts_of_another_plan_or_run_do_not_count(tmp_path: Path, change: dict[str, object], said: str) -> None:
    storage = LocalStorage(str(tmp_path))
    shard = replace(SHARDS[0], rows=1) if "rows" in change else SHARDS[0]
    name = commit(storage, shard, **change)
    coverage = fresh(storage)
    assert coverage.damaged == {name: said}
    assert list(coverage.pending()) == SHARDS


def test_a_part_beyond_the_plan_is_left_alone(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    commit(storage, Shard(0, 3, 2))
    coverage = fresh(storage)
    assert (coverage.shards, coverage.damaged) == (0, {})


def test_the_newest_generation_counts(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    commit(storage, SHARDS[0], failed=[0, 1])
    commit(storage, replace(SHARDS[0], generation=1), failed=[1])
    coverage = fresh(storage)
    assert (coverage.rows, coverage.failed, coverage.shards) == (2, 1, 1)


def test_a_part_that_goes_while_it_is_looked_at_is_not_covered(tmp_path: Path) -> None:
    class Vanishing(LocalStorage):
        def list(self, folder: str):
            names = list(super().list(folder))
            for name in names:
                self.delete(name)
            return iter(names)

    storage = Vanishing(str(tmp_path))
    commit(storage, SHARDS[0])
    coverage = fresh(storage)
    assert (coverage.shards, coverage.damaged) == (0, {})


def test_new_failures_are_told_once(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    coverage = Coverage(storage, PLAN, "run")
    commit(storage, SHARDS[0])
    coverage.refresh()
    assert coverage.take_new_failures() == []
    commit(storage, SHARDS[1], failed=[1])
    coverage.refresh()
    assert coverage.take_new_failures() == [("x", "no such file")]
    assert coverage.take_new_failures() == []
    gone = commit(storage, SHARDS[3], failed=[0])
    coverage.refresh()
    storage.delete(gone)
    assert coverage.take_new_failures() == [], "a part that has gone is not worth a run"
