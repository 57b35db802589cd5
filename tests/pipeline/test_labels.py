"""Labels files: lines, endings, counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.labels import check_label_count, load_labels

IMAGENET = Path(__file__).parents[2] / "configs/labels/ilsvrc2012_wordnet_lemmas.txt"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (b"cat\ndog\n", ["cat", "dog"]),
        (b"cat\ndog", ["cat", "dog"]),
        (b"cat\r\ndog\r\n", ["cat", "dog"]),
        (b"cat\ndog\n\n\r\n", ["cat", "dog"]),
        (b"\xef\xbb\xbfcat\n", ["cat"]),
        (b" cat \n\tdog\t\n", ["cat", "dog"]),
        ("Katze\u2028Kater\nÄffchen\x0b\x85x\n".encode(), ["Katze\u2028Kater", "Äffchen\x0b\x85x"]),
        (b"crane\ncrane\n", ["crane", "crane"]),
    ],
)
def test_load_labels(tmp_path: Path, text: bytes, labels: list[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text)
    assert load_labels(path) == labels


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "{} is empty; it must have one label a line"),
        (b"\n\n", "{} is empty; it must have one label a line"),
        (b"cat\n\ndog\n", "line 2 of {} is empty; it must have one label a line"),
        (b"\ncat\n", "line 1 of {} is empty; it must have one label a line"),
        (b"cat\n \ndog", "line 2 of {} is empty; it must have one label a line"),
        (b"cat\n\xff\n", "{} is not UTF-8 text (byte 4)"),
    ],
)
def test_load_labels_refuses(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_labels(path)
    assert str(caught.value) == f"model.labels: {problem.format(path)}"


def test_load_labels_that_are_not_there(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.txt", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as caught:
            load_labels(path)
        assert str(caught.value) == f"model.labels: {path} cannot be read: {reason}"


def test_the_labels_of_imagenet() -> None:
    labels = load_labels(IMAGENET)
    assert len(labels) == 1000
    assert (labels[0], labels[71], labels[999]) == (
        "tench, Tinca_tinca",
        "scorpion",
        "toilet_tissue, toilet_paper, bathroom_tissue",
    )
    assert [index for index, label in enumerate(labels) if label == "crane"] == [134, 517]
    check_label_count(labels, 1000, 0)
    check_label_count(labels, 1001, 1)


def test_an_inserted_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    lines = IMAGENET.read_text().splitlines()
    path.write_text("\n".join([*lines[:500], "one too many", *lines[500:]]))
    with pytest.raises(UsageError) as caught:
        check_label_count(load_labels(path), 1000, 0, path)
    assert str(caught.value) == (
        f"model.labels: {path} has 1001 labels, and the model has 1000 classes; "
        "it must have 1000 lines, one a class in the model's order"
    )


@pytest.mark.parametrize(
    ("labels", "classes", "offset", "message"),
    [
        (
            1000,
            1001,
            0,
            "has 1000 labels, and the model has 1001 classes; "
            "it must have 1001 lines, one a class in the model's order; "
            "if class 0 is background, set model.label_offset: 1",
        ),
        (
            1001,
            1001,
            1,
            "has 1001 labels, and the model has 1001 classes less model.label_offset 1; "
            "it must have 1000 lines, one a class in the model's order",
        ),
        (
            1,
            2,
            3,
            "has 1 labels, and the model has 2 classes less model.label_offset 3; "
            "it must have 0 lines, one a class in the model's order",
        ),
    ],
)
def test_check_label_count_refuses(labels: int, classes: int, offset: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_label_count(["x"] * labels, classes, offset, "l.txt")
    assert str(caught.value) == f"model.labels: l.txt {message}"
