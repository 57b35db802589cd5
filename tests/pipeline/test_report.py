import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.large_output import make_large_output
from pipeline.coverage import Coverage
from pipeline.errors import HublabelError
from pipeline.plan import Plan, PlanFile
from pipeline.query import part_names
from pipeline.record import RunRecord
from pipeline.report import make_report, write_report
from transforms.errors import ImageError
from transforms.parts import PartFooter, commit_part
from transforms.records import Columns, Row, Shard, rows_to_table
from transforms.storage import LocalStorage

PLAN = Plan(
    rows=5, shards=2, shard_size=3, fingerprint="plan", left_out={"hidden": 2},
    files=(PlanFile("plan/plan-00000.parquet", 1, 3, 3, 1), PlanFile("plan/plan-00001.parquet", 1, 2, 3, 1)),
)  # fmt: skip
RECORD = RunRecord("/out", {"batch": {"size": 2}}, "/model", {"model files": "ff"}, PLAN, {"python": "3.11"})
TOP_2 = Columns(top_k=2)


def labelled(position: int, index: int) -> Row:
    return Row(position, position, "x", classes=np.array([index, 1 - index]), scores=np.array([0.9, 0.1], np.float32))


def failed(position: int, stage: str, kind: str) -> Row:
    row = Row(position, position, "x")
    row.fail(ImageError(stage, kind, "because"))
    return row


def commit(
    storage: LocalStorage, file: int, rows: Sequence[Row], labels: Sequence[str] | None = ("cat", "dog"),
    columns: Columns = TOP_2, generation: int = 0,
) -> None:  # fmt: skip
    count = sum(row.status == "failed" for row in rows)
    footer = PartFooter("plan", file, 0, generation, len(rows), count, "run", {"read": 0.25, "model": 1 / 3})
    table = rows_to_table(rows, columns, labels, 0, None)
    commit_part(storage, Shard(file, 0, len(rows), generation), table, footer)


def commit_all(storage: LocalStorage, labels: Sequence[str] = ("cat", "dog")) -> None:
    for file, count in ((0, 3), (1, 2)):
        commit(storage, file, [labelled(n, 1) for n in range(count)], labels=labels)


def report_of(storage: LocalStorage, images: int = 5, labelling: float = 2.0) -> dict:
    seconds = {"starting": 1.0, "labelling": labelling}
    coverage = Coverage(storage, PLAN, "run")
    coverage.refresh()
    report = make_report(storage, RECORD, coverage, images, seconds)
    assert json.loads(json.dumps(report)) == report
    return report


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path))


def test_counts_rate_seconds_and_pins(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(0, 1), failed(1, "read", "not_found"), labelled(2, 1)])
    commit(storage, 1, [failed(0, "read", "not_found"), failed(1, "decode", "truncated")])
    report = report_of(storage)
    finished = report.pop("finished")
    assert finished.endswith("Z")
    assert report == {
        "images": 5,
        "status": {"ok": 2, "failed": 3},
        "errors": {"read/not_found": 2, "decode/truncated": 1},
        "labels": {"dog": 2},
        "last_session": {
            "images": 5,
            "seconds": 3.0,
            "phase_seconds": {"starting": 1.0, "labelling": 2.0},
            "images_per_second": 2.5,
        },
        "thread_seconds": {"model": 0.667, "read": 0.5},
        "plan": {"rows": 5, "shards": 2, "left_out": {"hidden": 2}},
        "fingerprints": {"run": RECORD.fingerprint, "plan": "plan", "pins": {"model files": "ff"}},
        "versions": {"python": "3.11"},
        "precision": None,
        "config": {"batch": {"size": 2}},
    }


def test_the_most_frequent_come_first(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(0, 0), labelled(1, 1), labelled(2, 1)])
    commit(storage, 1, [labelled(0, 1), labelled(1, 0)])
    assert list(report_of(storage)["labels"].items()) == [("dog", 3), ("cat", 2)]


def test_without_labels_classes_are_counted_by_index(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(0, 0), labelled(1, 1), labelled(2, 1)], labels=None)
    commit(storage, 1, [labelled(0, 1), labelled(1, 0)], labels=None)
    assert report_of(storage)["labels"] == {"1": 3, "0": 2}


def test_embeddings_alone_have_no_labels(storage: LocalStorage) -> None:
    for file, count in ((0, 3), (1, 2)):
        rows = [Row(n, n, "x", embedding=np.ones(2, np.float32)) for n in range(count)]
        commit(storage, file, rows, columns=Columns(top_k=0, embedding=2))
    report = report_of(storage)
    assert report["labels"] == {}
    assert report["status"] == {"ok": 5, "failed": 0}


def test_a_superseded_part_does_not_count(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(n, 0) for n in range(3)])
    commit(storage, 1, [failed(0, "read", "timeout"), labelled(1, 0)])
    commit(storage, 1, [labelled(0, 1), labelled(1, 0)], generation=1)
    report = report_of(storage)
    assert report["errors"] == {}
    assert report["labels"] == {"cat": 4, "dog": 1}


def test_a_session_that_had_nothing_to_do_has_no_rate(storage: LocalStorage) -> None:
    commit_all(storage)
    assert report_of(storage, images=0, labelling=0.0)["last_session"] == {
        "images": 0, "seconds": 1.0, "phase_seconds": {"starting": 1.0, "labelling": 0.0}, "images_per_second": None,
    }  # fmt: skip


def test_counting_many_parts_at_once_counts_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.ROWS_AT_ONCE", 100)  # of shards of 32: four lots of parts, and a rest
    record = make_large_output(tmp_path, 500)
    coverage = Coverage(storage := LocalStorage(str(tmp_path)), record.plan, record.fingerprint)
    coverage.refresh()
    assert coverage.shards == 16
    errors: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for name in part_names(storage, record):
        for row in pq.read_table(tmp_path / name, partitioning=None).to_pylist():
            if row["status"] == "failed":
                errors[f"{row['error_stage']}/{row['error_type']}"] += 1
            else:
                labels[row["label"]] += 1
    report = make_report(storage, record, coverage, 0, {})
    assert sum(report["errors"].values()) == coverage.failed > 0
    assert report["errors"] == errors
    assert report["labels"] == labels
    assert list(report["labels"].items()) == sorted(labels.items(), key=lambda item: (-item[1], item[0]))


def test_labels_that_stand_twice_are_counted_together_and_missing_ones_by_index(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(0, 0), labelled(1, 1), labelled(2, 1)], labels=("crane", "crane"))
    commit(storage, 1, [labelled(0, 1), labelled(1, 0)], labels=None)
    assert report_of(storage)["labels"] == {"crane": 3, "1": 1, "0": 1}


def test_the_file_is_readable_json(storage: LocalStorage) -> None:
    commit_all(storage, labels=("chat", "été"))
    coverage = Coverage(storage, PLAN, "run", seconds=Counter())
    coverage.refresh()
    write_report(storage, RECORD, coverage, 3, {})
    text = storage.read("report.json").decode()
    assert text.endswith("}\n")
    assert '\n  "labels": {\n    "été": 5\n  }' in text
    assert json.loads(text)["images"] == 5


def test_parts_that_go_meanwhile_are_told(storage: LocalStorage) -> None:
    commit(storage, 0, [labelled(n, 1) for n in range(3)])
    with pytest.raises(HublabelError, match="parts have gone while the run went on: 3 of 5 rows are there"):
        report_of(storage)
