"""Truth files: kinds of tables and columns, what a value names, how URIs find their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.labels import load_labels
from pipeline.truth import class_indices, file_names, folder_truth, read_truth, wnids
from tests.pictures import picture_bytes

PETS = ["cat", "dog", "sea_horse, hippocampus"]
IMAGENET = load_labels(Path(__file__).parents[2] / "configs/labels/ilsvrc2012_wordnet_lemmas.txt")


def pairs(truth: Any) -> list[tuple[str, int]]:
    return list(zip(truth.uris.to_pylist(), truth.classes.to_pylist(), strict=True))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "uri,label_index\na.jpg,2\n/abs/b.jpg,0\nhttp://h/c.jpg,1\n"),
        ("t.tsv", "label_index\turi\n2\ta.jpg\n0\t/abs/b.jpg\n1\thttp://h/c.jpg\n"),
        ("t.csv", 'uri,label\na.jpg,"sea_horse, hippocampus"\n/abs/b.jpg,Cat\nhttp://h/c.jpg,dog\n'),
        ("t.csv", "uri,label\na.jpg,hippocampus\n/abs/b.jpg,cat\nhttp://h/c.jpg,dog\n"),
        ("t.csv", "uri,label\na.jpg,2\n/abs/b.jpg,0\nhttp://h/c.jpg,1\n"),
        ("t.jsonl", "".join(json.dumps({"uri": u, "label": c}) + "\n" for u, c in
                            (("a.jpg", 2), ("/abs/b.jpg", 0), ("http://h/c.jpg", 1)))),
    ],
)  # fmt: skip
def test_tables_by_index_and_name(tmp_path: Path, name: str, text: str) -> None:
    truth = read_truth(write(tmp_path / name, text), PETS)
    assert pairs(truth) == [(f"{tmp_path}/a.jpg", 2), ("/abs/b.jpg", 0), ("http://h/c.jpg", 1)]
    assert truth.left_out == {}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([2, 0, 1], pa.int16()), "index"),
        (pa.array([2.0, 0.0, 1.0]), "index"),
        (pa.array(["2", "0.0", " 1"]), "index"),
        (pa.array(["hippocampus", "cat", "dog"]).dictionary_encode(), "name"),
    ],
)
def test_parquet(tmp_path: Path, values: pa.Array, kind: str) -> None:
    pq.write_table(pa.table({"file": ["a", "b", "c"], "cls": values}), tmp_path / "t.parquet")
    truth = read_truth(str(tmp_path / "t.parquet"), PETS, uri_column="file")
    assert pairs(truth) == [(f"{tmp_path}/a", 2), (f"{tmp_path}/b", 0), (f"{tmp_path}/c", 1)]
    assert (truth.column, truth.kind) == ("cls", kind)


def test_a_column_of_another_name(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "uri,label_index,animal\na,0,dog\nb,0,\nc,0,cat\n")
    truth = read_truth(path, PETS, "animal")
    assert pairs(truth) == [(f"{tmp_path}/a", 1), (f"{tmp_path}/c", 0)]
    assert (truth.column, truth.kind, truth.left_out) == ("animal", "name", {"no class given": 1})
    with pytest.raises(UsageError, match=r"--truth: '.*t.csv': no column 'plant' \(--column\)"):
        read_truth(path, PETS, "plant")


def test_wnids_are_the_sorted_thousand_and_name_ilsvrc_classes(tmp_path: Path) -> None:
    assert len(wnids()) == 1000
    assert wnids() == sorted(set(wnids()))
    assert [wnids()[index] for index in (0, 71, 999)] == ["n01440764", "n01770393", "n15075141"]
    path = write(tmp_path / "t.csv", "uri,wnid\na,n01770393\nb,n15075141\n")
    for labels in (IMAGENET, None):
        truth = read_truth(path, labels)
        assert pairs(truth) == [(f"{tmp_path}/a", 71), (f"{tmp_path}/b", 999)]
        assert truth.kind == "wnid"
    with pytest.raises(UsageError, match=r"column 'wnid': wnids are those of the 1,000 classes .* has 3 labels"):
        read_truth(path, PETS)
    own = ["n15075141", "n01440764", "n01770393"]  # of a model with three of the classes, and wnids for labels
    assert read_truth(path, own).classes.to_pylist() == [2, 0]


def test_folder_names(tmp_path: Path) -> None:
    for name in ("n01440764/1.png", "n15075141/1.png", "n01440764/2.png"):
        (tmp_path / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / name).write_bytes(picture_bytes((1, 2, 3)))
    truth = read_truth(f"{tmp_path}/val", IMAGENET)
    folder = f"{tmp_path}/val"
    assert pairs(truth) == [(f"{folder}/n01440764/1.png", 0), (f"{folder}/n01440764/2.png", 0),
                            (f"{folder}/n15075141/1.png", 999)]  # fmt: skip
    assert (truth.column, truth.kind) == (None, "wnid")
    remote = pa.array(["gs://b/dog/1.jpg", "http://h/cat/x.jpg?a=b", "/a/pets.tar#cat/3.jpg"])
    assert folder_truth(remote, PETS, "the run").classes.to_pylist() == [1, 0, 0]


def test_two_classes_of_one_name_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "uri,label\na,crane\nb,scorpion\nc,crane\nd,maillot\n")
    truth = read_truth(path, IMAGENET)
    assert pairs(truth) == [(f"{tmp_path}/b", 71), (f"{tmp_path}/d", 638)]
    assert truth.left_out == {"'crane' names two classes": 2}


def test_an_image_named_twice(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path / "t.csv", "uri,label\na,dog\nb,cat\na,dog\n"), PETS)
    assert pairs(truth) == [(f"{tmp_path}/a", 1), (f"{tmp_path}/b", 0)]
    with pytest.raises(UsageError, match=r"/a has two classes, 0 and 1$"):
        read_truth(write(tmp_path / "t.csv", "uri,label\na,dog\nb,cat\na,cat\n"), PETS)


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("uri,label\na,dgo\n", PETS, "'dgo' is none of the 3 labels of model.labels; did you mean 'dog'?"),
        ("uri,label\na,dog\n", None, "'dog' is no index and no wnid, and names need model.labels"),
        ("uri,label_index\na,dog\n", PETS, "column 'label_index': 'dog' is no whole number"),
        ("uri,label_index\na,1.5\n", PETS, "column 'label_index': '1.5' is no whole number"),
        ("uri,wnid\na,dog\n", PETS, "'dog' is none of the 1,000 wnids of ILSVRC 2012, such as n01440764"),
        ("uri,label\na,n01440764\nb,n99999999\n", IMAGENET, "'n99999999' is none of the 1,000 wnids"),
        ("uri,label\na,\n", PETS, "tells no class (rows left out: {'no class given': 1})"),
        ("uri,class\na,dog\n", PETS, "(and there is no column label_index, label, wnid, cls; --column names another)"),
        ("file,label\na,dog\n", PETS, "no column 'uri' (input.uri_column); its columns are: file, label"),
        ("uri,label\n", PETS, "names no image"),
    ],
)
def test_what_is_no_truth(tmp_path: Path, text: str, labels: list[str] | None, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_truth(write(tmp_path / "t.csv", text), labels)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"--truth: '{tmp_path}/t.csv'")


def test_a_missing_file() -> None:
    with pytest.raises(UsageError, match=r"^--truth: 'nowhere.csv' does not exist"):
        read_truth("nowhere.csv", PETS)


def test_bad_lines_are_refused_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "uri,label\na,dog\nb\nc,cat\n")
    with pytest.raises(UsageError, match="line 3: it has 1 field"):
        read_truth(path, PETS)
    truth = read_truth(path, PETS, on_bad_line="row")
    assert (truth.classes.to_pylist(), truth.left_out) == ([1, 0], {"bad line": 1})


def test_indices_are_not_bounded_and_may_be_of_the_background() -> None:
    found = class_indices(pa.chunked_array([[-1, 3], [None, 1000]]), "label", PETS, "x")
    assert found.indices.to_pylist() == [-1, 3, None, 1000]
    assert (found.kind, found.left_out) == ("index", {"no class given": 1})


def test_numbers_that_are_labels_are_names_unless_they_are_typed_or_the_column_says_index() -> None:
    odd = ["1", "3", "5"]
    assert class_indices(pa.array(["5", "1"]), "label", odd, "x").indices.to_pylist() == [2, 0]
    assert class_indices(pa.array(["2", "1"]), "label_index", odd, "x").indices.to_pylist() == [2, 1]
    assert class_indices(pa.array([2, 1]), "label", odd, "x").indices.to_pylist() == [2, 1]
    with pytest.raises(UsageError, match="bool names no class"):
        class_indices(pa.array([True]), "label", odd, "x")


def test_matching_by_uri_then_by_unique_file_name(tmp_path: Path) -> None:
    truth = read_truth(
        write(tmp_path / "t.csv", "uri,label\nx/1.jpg,cat\nx/2.jpg,dog\ny/2.jpg,cat\nx/3.jpg,dog\n"), PETS
    )
    here = pa.array([f"{tmp_path}/x/2.jpg", "/else/3.jpg", f"{tmp_path}/x/1.jpg"])
    assert truth_of(truth, here) == ([1, None, 0], "uri", 0)
    there = pa.array(["s3://b/1.jpg", "s3://b/2.jpg", "https://h/3.jpg?sig=1/2", "s3://b/4.jpg"])
    assert truth_of(truth, there) == ([0, None, 1, None], "file name", 1)  # 2.jpg stands twice in the truth
    twice = pa.array(["s3://b/1.jpg", "s3://c/1.jpg", "s3://b/3.jpg"])
    assert truth_of(truth, twice) == ([None, None, 1], "file name", 2)
    assert truth_of(truth, pa.array(["/q"])) == ([None], "file name", 0)


def truth_of(truth: Any, uris: pa.StringArray) -> tuple[list[int | None], str, int]:
    match = truth.match(uris)
    return match.classes.to_pylist(), match.by, match.ambiguous


def test_file_names() -> None:
    uris = ["/a/b c?.jpg", "http://h/x/y.jpg?z=/w", "HTTPS://h/y.png#f/g", "s3://b/k?.jpg", "a.tar#p/q.jpg", "plain"]
    assert file_names(pa.array(uris)).to_pylist() == ["b c?.jpg", "y.jpg", "y.png", "k?.jpg", "q.jpg", "plain"]
