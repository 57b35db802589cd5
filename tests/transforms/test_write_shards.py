"""Collecting a shard's rows and committing them, once, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from transforms.errors import ImageError
from transforms.parts import PartFooter, part_name, read_footer
from transforms.records import Columns, LabelledBatch, Row, Shard
from transforms.storage import LocalStorage
from transforms.write_shards import IncompleteShardError, WriteShards, _WriteShards, in_order, merged

SHARD = Shard(0, 1, 5)
OTHER = Shard(0, 2, 2)
COLUMNS = Columns(top_k=1)
LABELS = ("cat", "dog")


def row(position: int, index: int = 0, first: int = 10) -> Row:
    score = np.array([0.5], np.float32)
    return Row(first + position, position, f"{position}.jpg", classes=np.array([index]), scores=score)


def failed(position: int) -> Row:
    found = Row(10 + position, position, f"{position}.jpg")
    found.fail(ImageError("read", "not_found", "no such file"))
    return found


def batch(shard: Shard, rows: Iterable[Row], **seconds: float) -> LabelledBatch:
    return LabelledBatch(shard, list(rows), seconds)


def step(root: Path, **changes: Any) -> WriteShards:
    return replace(WriteShards(str(root), COLUMNS, LABELS, 0, "the plan", "the run"), **changes)


def writer(root: Path, **changes: Any) -> _WriteShards:
    """The step as a runner has it, at the start of a bundle."""
    found = _WriteShards(step(root, **changes))
    found.setup()
    found.start_bundle()
    return found


def labels_of(root: Path, shard: Shard) -> list[tuple[int, str, str | None]]:
    table = pq.ParquetFile(root / part_name(shard)).read()
    return list(zip(*(table.column(name).to_pylist() for name in ("row", "uri", "label")), strict=True))


def temporary(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name.startswith(".")]


def test_a_part_is_committed_by_the_call_that_brings_the_last_row(tmp_path: Path) -> None:
    dofn = writer(tmp_path)
    assert list(dofn.process(batch(SHARD, [row(3), row(1, 1)]))) == []
    assert list(dofn.process(batch(SHARD, [failed(4)]))) == []
    assert not (tmp_path / part_name(SHARD)).exists()
    assert list(dofn.process(batch(SHARD, [row(0), row(2, 1)]))) == [SHARD]
    assert labels_of(tmp_path, SHARD) == [
        (10, "0.jpg", "cat"), (11, "1.jpg", "dog"), (12, "2.jpg", "dog"), (13, "3.jpg", "cat"), (14, "4.jpg", None),
    ]  # fmt: skip
    dofn.finish_bundle()


def test_shards_may_come_interleaved(tmp_path: Path) -> None:
    dofn = writer(tmp_path)
    assert list(dofn.process(batch(SHARD, [row(n) for n in (4, 3, 2)]))) == []
    assert list(dofn.process(batch(OTHER, [row(1)]))) == []
    assert list(dofn.process(batch(SHARD, [row(0), row(1)]))) == [SHARD]
    assert not (tmp_path / part_name(OTHER)).exists()
    assert list(dofn.process(batch(OTHER, [row(0)]))) == [OTHER]
    assert [uri for _, uri, _ in labels_of(tmp_path, SHARD)] == [f"{n}.jpg" for n in range(5)]
    assert [uri for _, uri, _ in labels_of(tmp_path, OTHER)] == ["0.jpg", "1.jpg"]


def test_the_footer_says_what_the_part_is(tmp_path: Path) -> None:
    dofn = writer(tmp_path)
    list(dofn.process(batch(SHARD, [row(0), failed(1)], read=1.0, decode=0.5)))
    list(dofn.process(batch(SHARD, [failed(2), row(3), row(4)], read=0.25, model=2.0)))
    footer = read_footer(str(tmp_path / part_name(SHARD)))
    seconds = dict(footer.seconds)
    assert seconds.pop("write") > 0
    assert seconds == {"read": 1.25, "decode": 0.5, "model": 2.0}
    assert footer.finished > 1.6e9
    plain = replace(footer, seconds={}, finished=0.0)
    assert plain == PartFooter("the plan", 0, 1, 0, rows=5, failed=2, run="the run")


def test_on_a_runner(tmp_path: Path) -> None:
    batches = [batch(SHARD, [row(n)]) for n in (4, 0, 2, 1, 3)] + [batch(OTHER, [failed(0), failed(1)])]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create([batches]) | beam.FlatMap(lambda all: all) | step(tmp_path)
        assert_that(found, equal_to([SHARD, OTHER]))
    assert len(labels_of(tmp_path, SHARD)) == 5
    assert [label for _, _, label in labels_of(tmp_path, OTHER)] == [None, None]


# Never short, never double.


def test_rows_that_went_astray_raise_and_nothing_is_written(tmp_path: Path) -> None:
    """Two writers with half of a shard each, as when rows part ways between two bundles."""
    first, second = writer(tmp_path), writer(tmp_path)
    assert list(first.process(batch(SHARD, [row(0), row(1)]))) == []
    assert list(second.process(batch(SHARD, [row(2), row(3), row(4)]))) == []
    with pytest.raises(IncompleteShardError, match="shard 00000/00001: 2 of 5 rows came to this writer"):
        first.finish_bundle()
    with pytest.raises(IncompleteShardError, match="shard 00000/00001: 3 of 5 rows came to this writer"):
        second.finish_bundle()
    assert list(tmp_path.rglob("*.parquet")) == []


def test_rows_that_go_astray_end_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="shard 00000/00001: 4 of 5 rows came to this writer"):  # noqa: SIM117
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            _ = pipeline | beam.Create([batch(SHARD, [row(n) for n in range(4)])]) | step(tmp_path)
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    "positions", [[0, 1, 2, 3, 3], [0, 1, 2, 3, 5], [0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 5], [-1, 0, 1, 2, 3]]
)
def test_rows_that_are_double_or_foreign_raise(tmp_path: Path, positions: Sequence[int]) -> None:
    dofn = writer(tmp_path)
    with pytest.raises(IncompleteShardError, match="shard 00000/00001: its rows are not each there once"):
        list(dofn.process(batch(SHARD, [row(n) for n in positions])))
    assert list(tmp_path.rglob("*.parquet")) == []


def test_in_order() -> None:
    rows = [row(n) for n in (2, 0, 1)]
    assert [found.position for found in in_order(rows, replace(SHARD, rows=3))] == [0, 1, 2]
    again = Shard(0, 1, 2, generation=1, positions=(1, 4))
    assert [found.position for found in in_order([row(4), row(1)], again)] == [1, 4]
    with pytest.raises(IncompleteShardError):
        in_order([row(1), row(3)], again)


def test_a_bundle_forgets_what_one_before_it_that_failed_had(tmp_path: Path) -> None:
    dofn = writer(tmp_path)
    list(dofn.process(batch(SHARD, [row(0), row(1)])))
    dofn.start_bundle()  # the runner's retry, with the same instance
    list(dofn.process(batch(SHARD, [row(n, 1) for n in range(5)])))
    dofn.finish_bundle()
    assert [label for _, _, label in labels_of(tmp_path, SHARD)] == ["dog"] * 5


# Two attempts.


def test_the_first_commit_wins(tmp_path: Path) -> None:
    first, second = writer(tmp_path), writer(tmp_path)
    assert list(first.process(batch(SHARD, [row(n, 0) for n in range(5)]))) == [SHARD]
    before = (tmp_path / part_name(SHARD)).stat()
    assert list(second.process(batch(SHARD, [row(n, 1) for n in range(5)]))) == [SHARD]
    second.finish_bundle()
    after = (tmp_path / part_name(SHARD)).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [label for _, _, label in labels_of(tmp_path, SHARD)] == ["cat"] * 5
    assert temporary(tmp_path) == []


def test_attempts_that_race_leave_one_whole_part(tmp_path: Path) -> None:
    attempts = 8
    barrier = threading.Barrier(attempts)
    yielded: list[Shard] = []

    def work(index: int) -> None:
        dofn = writer(tmp_path)
        barrier.wait()
        yielded.extend(dofn.process(batch(SHARD, [row(n, index % 2, first=100 * index) for n in range(5)])))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(attempts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert yielded == [SHARD] * attempts
    found = labels_of(tmp_path, SHARD)
    winner = found[0][0] // 100
    assert found == [(100 * winner + n, f"{n}.jpg", LABELS[winner % 2]) for n in range(5)]
    assert temporary(tmp_path) == []


def test_a_disk_that_fails_raises_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    dofn = writer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("transforms.storage.os.fsync", full)
        with pytest.raises(OSError, match="the disk is full; what is committed stays"):
            list(dofn.process(batch(SHARD, [row(n) for n in range(5)])))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    dofn.start_bundle()
    assert list(dofn.process(batch(SHARD, [row(n) for n in range(5)]))) == [SHARD]


# Failed rows taken up again: a part of the next generation.


def test_the_next_generation_replaces_rows_and_then_the_part(tmp_path: Path) -> None:
    list(writer(tmp_path).process(batch(SHARD, [row(0), failed(1), row(2), failed(3), failed(4)], read=1.0)))
    again = Shard(0, 1, 2, generation=1, positions=(1, 4))
    assert list(writer(tmp_path).process(batch(again, [failed(4), row(1, 1)], read=0.5))) == [again]
    assert [path.name for path in tmp_path.rglob("*.parquet")] == ["part-00001-g001.parquet"]
    table = pq.ParquetFile(tmp_path / part_name(again)).read()
    assert table.column("label").to_pylist() == ["cat", "dog", "cat", None, None]
    assert table.column("status").to_pylist() == ["ok", "ok", "ok", "failed", "failed"]
    footer = read_footer(str(tmp_path / part_name(again)))
    assert (footer.generation, footer.rows, footer.failed) == (1, 5, 2)
    assert footer.seconds["read"] == pytest.approx(1.5)


def test_another_attempt_at_the_next_generation_was_faster(tmp_path: Path) -> None:
    list(writer(tmp_path).process(batch(SHARD, [row(n) for n in range(4)] + [failed(4)])))
    again = Shard(0, 1, 1, generation=1, positions=(4,))
    assert list(writer(tmp_path).process(batch(again, [row(4, 0)]))) == [again]
    assert list(writer(tmp_path).process(batch(again, [row(4, 1)]))) == [again]
    assert labels_of(tmp_path, again)[4] == (14, "4.jpg", "cat")


def test_merged_keeps_the_other_rows_as_they_are() -> None:
    before = pa.table({"n": [0, 1, 2, 3], "s": ["a", "b", "c", "d"]})
    again = pa.table({"n": [10, 30], "s": ["B", "D"]})
    expected = {"n": [0, 10, 2, 30], "s": ["a", "B", "c", "D"]}
    assert merged(before, again, (1, 3)).to_pydict() == expected
    assert merged(before, again.slice(0, 0), ()).to_pydict() == before.to_pydict()


# Columns.


def plan_with_cameras(root: Path) -> bytes:
    """A plan file whose row group 1 has the column `camera`; the serialised schema of the carried columns."""
    path = root / "plan" / "plan-00000.parquet"
    path.parent.mkdir(parents=True)
    rows = range(10, 15)
    table = pa.table(
        {
            "row": pa.array([*range(5), *rows], pa.int64()),
            "uri": [f"{n}.jpg" for n in (*range(5), *range(5))],
            "camera": [f"camera {n}" for n in (*range(5), *rows)],
        }
    )
    pq.write_table(table, path, row_group_size=5)
    return pa.schema([("camera", pa.string())]).serialize().to_pybytes()


def test_columns_of_the_input_are_carried_by_row(tmp_path: Path) -> None:
    columns = Columns(top_k=1, carried=plan_with_cameras(tmp_path))
    list(writer(tmp_path, columns=columns).process(batch(SHARD, [row(n) for n in (4, 0, 1, 3)] + [failed(2)])))
    table = pq.ParquetFile(tmp_path / part_name(SHARD)).read()
    assert table.schema.names[:3] == ["row", "uri", "camera"]
    assert table.column("camera").to_pylist() == [f"camera {n}" for n in range(10, 15)]
    again = Shard(0, 1, 1, generation=1, positions=(2,))
    list(writer(tmp_path, columns=columns).process(batch(again, [row(2, 1)])))
    table = pq.ParquetFile(tmp_path / part_name(again)).read()
    assert table.column("camera").to_pylist() == [f"camera {n}" for n in range(10, 15)]
    assert table.column("label").to_pylist() == ["cat", "cat", "dog", "cat", "cat"]


def test_the_storage_is_that_of_the_output(tmp_path: Path) -> None:
    dofn = writer(tmp_path / "a b")
    list(dofn.process(batch(OTHER, [row(0), row(1)])))
    assert LocalStorage(str(tmp_path / "a b")).exists("predictions/00000/part-00002.parquet")
