from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.evaluation.judged import Judged, judged
from tests.labelled_output import failed, labelled, output_of
from tests.object_store import BUCKET, ObjectStore
from transforms.storage import open_storage

LABELS = ["red", "green", "blue, azure"]
# (truth, guess, place of the truth)
ROWS = [(0, 0, 1), (0, 1, 2), (1, 1, 1), (2, 0, None), (1, None, None)]


def uri(number: int) -> str:
    return f"/photos/{LABELS[ROWS[number][0]].partition(',')[0]}/{number}.jpg"


def make(path: Path, **options: Any) -> None:
    """Rows as `ROWS` tells, the second best class being 0 after another, and 1 after 0."""
    rows = [
        failed(uri(n)) if guess is None else labelled(uri(n), guess, 0.5 + n / 10, 0 if guess else 1)
        for n, (_, guess, _) in enumerate(ROWS)
    ]
    rows.append(labelled("/photos/nobody/9.jpg", 0, 0.1, 1))
    output_of(path, rows, LABELS, **options)


def table_of(found: Judged) -> list[tuple[Any, ...]]:
    return found.connection.execute("SELECT row, truth, guess, place FROM judged ORDER BY row").fetchall()


def ask(path: Path, truth: str | None, column: str | None = None, labels: list[str] | None = LABELS) -> dict[str, Any]:
    from pipeline.query import open_output

    storage, record = open_output(str(path))
    with judged(storage, record, truth, column, labels) as found:
        return {**vars(found), "table": table_of(found), "connection": None}


EXPECTED = [(n, *row) for n, row in enumerate(ROWS)]
VALUES = {
    "label_index": ["0", "0", "1", "2", "1"],
    "label": ["red", "Red", "green", "azure", "green"],
    "other": ["0", "0", "1", "2", "1"],
}


@pytest.mark.parametrize("column", list(VALUES))
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_tables(tmp_path: Path, form: str, column: str) -> None:
    make(tmp_path / "out")
    rows = [{"uri": uri(n), column: value} for n, value in enumerate(VALUES[column])]
    rows.append({"uri": "/photos/not/there.jpg", column: rows[0][column]})
    path = tmp_path / f"truth.{form}"
    if form == "csv":
        path.write_text("\n".join([f"uri,{column}", *(f"{row['uri']},{row[column]}" for row in rows)]) + "\n")
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert ask(tmp_path / "out", str(path), column if column == "other" else None) == {
        "table": EXPECTED, "connection": None, "source": str(path), "kind": "name" if column == "label" else "index",
        "by": "uri", "images": 6, "unknown": 1, "unused": 1, "left_out": {},
    }  # fmt: skip


def test_wnids(tmp_path: Path) -> None:
    rows = [labelled("/a.jpg", 7, 0.9), labelled("/b.jpg", 8, 0.8)]
    output_of(tmp_path / "out", rows, [str(n) for n in range(1000)])
    (tmp_path / "truth.csv").write_text("uri,wnid\n/a.jpg,n01514668\n/b.jpg,n01514668\n")
    found = ask(tmp_path / "out", str(tmp_path / "truth.csv"), labels=[str(n) for n in range(1000)])
    assert found["kind"] == "wnid"
    assert found["table"] == [(0, 7, 7, 1), (1, 7, 8, None)]


def test_folders_of_the_images_themselves(tmp_path: Path) -> None:
    rows = [labelled("/p/green/a.jpg", 1, 0.9), labelled("/x.tar#blue/b.jpg", 0, 0.8), labelled("/p/1/c.jpg", 0, 0.8)]
    output_of(tmp_path / "names", rows[:2], LABELS)
    output_of(tmp_path / "indices", rows[2:], LABELS)
    found = ask(tmp_path / "names", "folders")
    assert (found["by"], found["kind"], found["source"]) == ("folder", "name", "the images' folders")
    assert found["table"] == [(0, 1, 1, 1), (1, 2, 0, None)]
    assert ask(tmp_path / "indices", "folders")["table"] == [(0, 1, 0, None)]


def test_a_folder_of_images_as_truth(tmp_path: Path) -> None:
    for name in ("red/a.jpg", "green/b.jpg"):
        (tmp_path / "val" / name).parent.mkdir(parents=True)
        (tmp_path / "val" / name).write_bytes(b"")
    output_of(tmp_path / "out", [labelled("/elsewhere/b.jpg", 1, 0.9), labelled("/elsewhere/a.jpg", 1, 0.9)], LABELS)
    found = ask(tmp_path / "out", str(tmp_path / "val"))
    assert (found["by"], found["kind"]) == ("file name", "name")
    assert found["table"] == [(0, 1, 1, 1), (1, 0, 1, 2)]


def test_a_column_that_was_carried(tmp_path: Path) -> None:
    cls = pa.array([0, 0, 1, 2, 1, None], pa.int64())
    kind = pa.array(["red", "red", "green", "azure", "green", "red"])
    make(tmp_path, carried={"cls": cls, 'the "kind"': kind}, sections={"input": {"columns": ["cls", 'the "kind"']}})
    assert ask(tmp_path, None, "cls") == {
        "table": EXPECTED, "connection": None, "source": "the column 'cls'", "kind": "index", "by": "column",
        "images": 6, "unknown": 1, "unused": 0, "left_out": {},
    }  # fmt: skip
    found = ask(tmp_path, None, 'the "kind"')
    assert found["table"] == [*EXPECTED, (5, 0, 0, 1)]
    assert found["kind"] == "name"


def test_file_names_that_stand_there_once(tmp_path: Path) -> None:
    rows = [
        labelled(f"https://h/{n}/{name}?w=1", 0, 0.9) for n, name in enumerate(["a.jpg", "b.jpg", "b.jpg", "c.jpg"])
    ]
    output_of(tmp_path / "out", rows, LABELS)
    truth = tmp_path / "truth.csv"
    truth.write_text("uri,label_index\nx/a.jpg,0\nx/b.jpg,1\nx/c.jpg,2\ny/c.jpg,2\n")
    found = ask(tmp_path / "out", str(truth))
    assert found["table"] == [(0, 0, 0, 1)]
    assert (found["by"], found["images"], found["unknown"], found["unused"]) == ("file name", 4, 3, 3)


def test_an_image_named_twice_counts_twice(tmp_path: Path) -> None:
    output_of(tmp_path / "out", [labelled("/a.jpg", 0, 0.9), labelled("/a.jpg", 1, 0.9)], LABELS)
    (tmp_path / "truth.csv").write_text("uri,label_index\n/a.jpg,0\n")
    found = ask(tmp_path / "out", str(tmp_path / "truth.csv"))
    assert found["table"] == [(0, 0, 0, 1), (1, 0, 1, 2)]
    assert (found["unknown"], found["unused"]) == (0, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uri,label_index\n/q/z.jpg,0\n", "names none of the 6 images of the output: they are called "
         "'/photos/red/0.jpg' here, and '/q/z.jpg' there"),
        ("uri,label_index\n/photos/red/0.jpg,1\n/photos/red/1.jpg,3\n",
         "class 3, and the model's 3 labels are 0 to 2; does it count from 1?"),
        ("uri,label_index\n/photos/red/0.jpg,7\n", "class 7, and the model's 3 labels are 0 to 2"),
        ("uri,label_index\n/photos/red/0.jpg,-2\n", "class -2, and the model's 3 labels are 0 to 2"),
        ("uri,label_index\n/photos/red/0.jpg,1\n/photos/red/0.jpg,2\n", "/photos/red/0.jpg has two classes, 1 and 2"),
        ("uri,label\n/photos/red/0.jpg,grren\n",
         "'grren' is none of the 3 labels of model.labels; did you mean 'green'?"),
    ],
)  # fmt: skip
def test_truths_that_do_not_fit(tmp_path: Path, text: str, said: str) -> None:
    make(tmp_path / "out")
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(UsageError) as raised:
        ask(tmp_path / "out", str(tmp_path / "truth.csv"))
    assert str(raised.value).endswith(said)


def test_nothing_to_compare(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(UsageError, match=r"no column 'cls' was carried from the input \(input.columns\)"):
        ask(tmp_path / "out", None, "cls")
    with pytest.raises(UsageError, match=r"out: the images' folders: 'nobody' is none of the 3 labels"):
        ask(tmp_path / "out", "folders")


def test_an_output_in_an_object_store(tmp_path: Path, object_store: ObjectStore) -> None:
    from pipeline.query import open_output

    make(tmp_path)
    storage = open_storage(f"s3://{BUCKET}/judged")
    for path in tmp_path.rglob("*.parquet"):
        storage.replace(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    (tmp_path / "truth.csv").write_text("uri,label_index\n" + "".join(f"{uri(n)},{ROWS[n][0]}\n" for n in range(5)))
    record = open_output(str(tmp_path))[1]
    with judged(storage, record, str(tmp_path / "truth.csv"), None, LABELS) as found:
        assert table_of(found) == EXPECTED
