"""`hublabel check --truth` on a model whose answers hang on every part of its preprocessing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from tests.pipeline.check import patterns
from tests.pipeline.running import Said

Checked = Callable[..., tuple[int, dict[str, Any]]]
Check = Callable[..., Said]

IMAGENET = ["image.scale=255.0", "image.mean=[0.485, 0.456, 0.406]", "image.std=[0.229, 0.224, 0.225]"]
VALUES = {"image.scale": 127.5, "image.mean": [1.0, 1.0, 1.0], "image.std": [1.0, 1.0, 1.0]}


def sets(*overrides: str) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


def share(found: dict[str, Any], name: str) -> tuple[float, str]:
    """Top-1 of a setting that was tried, and the verdict."""
    return next((one["top1"], one["verdict"]) for one in found["tried"] if one["name"] == name)


def test_as_configured_is_best(checked: Checked, truth: Path, tmp_path: Path) -> None:
    code, found = checked("--truth", str(truth))
    assert (code, found["passed"], found["mistakes"], found["changes"]) == (0, True, [], {})
    assert found["images"] == 96
    assert (found["configured"]["top1"], found["best"]["top1"]) == (1.0, 1.0)
    # What each class is taken for under the wrong preprocessing is a class of its own: see patterns.py.
    assert share(found, "transpose true") == (0.0, "worse")
    assert share(found, "channels bgr") == (0.0, "worse")
    assert share(found, "values in [0, 1]") == (1 / 3, "worse")  # all contrasts look like the same one
    assert share(found, "bicubic, antialias false")[1] == "no difference"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("planted", "changes", "words"),
    [
        (["image.transpose=true"], {"image.transpose": False}, "image.transpose: false, not true"),
        (["image.channels=bgr"], {"image.channels": "rgb"}, "image.channels: rgb, not bgr"),
        (["image.scale=255.0", "image.mean=[0.0, 0.0, 0.0]"], VALUES, "values in [-1, 1], not values in [0, 1]"),
        (["image.scale=1.0", "image.mean=[0.0, 0.0, 0.0]"], VALUES, "values in [-1, 1], not values 0..255"),
        (IMAGENET, VALUES, "values in [-1, 1], not ImageNet mean and std"),
        (["image.scale=1.0"], VALUES, "values in [-1, 1], not values as configured"),
        (["model.label_offset=1"], {"model.label_offset": 0}, "model.label_offset: 0, not 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_planted_mistake_is_named(
    checked: Checked, truth: Path, config: Path, planted: list[str], changes: dict[str, Any], words: str
) -> None:
    code, found = checked("--truth", str(truth), *sets(*planted))
    assert code == 1
    assert found["changes"] == changes
    assert len(found["mistakes"]) == 1
    assert words in found["mistakes"][0]
    assert (found["best"]["top1"], found["configured"]["top1"] < 0.5) == (1.0, True)
    # What it says to set is a config, and nothing is wrong with that.
    mended = checked("--truth", str(truth), *sets(*planted, *found["overrides"]))
    assert (mended[0], mended[1]["mistakes"]) == (0, [])
    load_config(config, [*planted, *found["overrides"]])


@pytest.mark.parametrize("geometry", ["stretch", "pad"])
def test_a_planted_geometry_is_named(checked: Checked, truth: Path, geometry: str) -> None:
    code, found = checked("--truth", str(truth), *sets(f"image.geometry={geometry}"))
    assert code == 1
    assert list(found["changes"]) == ["image.geometry", "image.fraction"]
    assert found["changes"]["image.geometry"] in ("crop_resize", "resize_crop")  # of square parts these are the same
    assert f", not {geometry}: top-1 +" in found["mistakes"][0]
    assert (found["best"]["top1"], found["configured"]["top1"] < 0.5) == (1.0, True)


def test_mistakes_that_hide_each_other(checked: Checked, truth: Path) -> None:
    """None of the four, mended alone, would bring back a single right answer."""
    planted = ["image.transpose=true", "image.channels=bgr", "model.label_offset=1"]
    code, found = checked("--truth", str(truth), *sets(*planted, "image.scale=1.0", "image.mean=[0.0, 0.0, 0.0]"))
    assert code == 1
    assert found["configured"]["top1"] < 0.1
    assert found["best"]["top1"] == 1.0
    assert found["changes"] == {
        "model.label_offset": 0, **VALUES, "image.transpose": False, "image.channels": "rgb",
    }  # fmt: skip
    assert list(found["groups"]) == ["label_offset", "values", "transpose", "channels"]


def shifted(truth: Path, by: int, name: str) -> Path:
    """The truth with other indices, beside the first."""
    with open(truth, newline="", encoding="utf-8") as file:
        rows = [(row["uri"], int(row["label_index"]) + by) for row in csv.DictReader(file)]
    path = truth.parent / name
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("uri", "label_index"), *rows])
    return path


def test_a_truth_that_counts_from_one(checked: Checked, truth: Path) -> None:
    code, found = checked("--truth", str(shifted(truth, 1, "from1.csv")))
    assert (code, found["changes"]) == (1, {})
    [mistake] = found["mistakes"]
    assert mistake.startswith("the truth counts classes from 1, and they count from 0: subtract 1 from its indices")


@pytest.fixture
def with_background(tmp_path: Path, config: Path) -> list[str]:
    """A model whose class 0 is background, and labels for the others."""
    (tmp_path / "labels.txt").write_text("\n".join(f"pattern {number}" for number in range(24)) + "\n")
    model = patterns.save_model(tmp_path / "model", first_class=1)
    return [f"model.handle={model}", f"model.labels={tmp_path}/labels.txt"]


def test_a_label_offset_that_does_not_fit_the_labels(checked: Checked, truth: Path, with_background: list[str]) -> None:
    """A run would refuse it; here the truth tells what is right."""
    code, found = checked("--truth", str(truth), *sets(*with_background))
    assert (code, found["changes"]) == (1, {"model.label_offset": 1})
    assert "24 labels, and the model has 25 classes" in found["mistakes"][0]
    assert "model.label_offset: 1, not 0" in found["mistakes"][1]
    code, found = checked("--truth", str(truth), *sets(*with_background, "model.label_offset=1"))
    assert (code, found["mistakes"], found["best"]["top1"]) == (0, [], 1.0)


def test_labels_that_fit_the_offset_leave_the_truth_to_blame(
    checked: Checked, truth: Path, with_background: list[str]
) -> None:
    low = shifted(truth, -1, "low.csv")
    code, found = checked("--truth", str(low), *sets(*with_background, "model.label_offset=1"))
    assert (code, found["changes"]) == (1, {})
    assert found["mistakes"][0].startswith("the truth's indices are 1 too low: add 1 to them")


def test_a_truth_of_other_classes(checked: Checked, truth: Path) -> None:
    code, found = checked("--truth", str(shifted(truth, 500, "others.csv")))
    assert (code, found["changes"], found["best"]["top1"]) == (1, {}, 0.0)
    assert found["mistakes"] == [
        "the model knows hardly any of these images, whatever the preprocessing: 0 of 96 are right"
    ]


def test_few_images_show_little(checked: Checked, check: Check, truth: Path) -> None:
    """Four images: even the worst mistake could be chance, and is not called one."""
    few = ["--truth", str(truth), "--images", "4", *sets("image.geometry=stretch")]
    code, found = checked(*few)
    assert (code, found["images"], found["changes"]) == (0, 4, {})
    assert share(found, "crop_resize 1") == (1.0, "no difference")
    assert "nothing is shown to be better, but 4 images show little" in check(*few).out


def test_images_that_fail_are_left_out_and_named(check: Check, truth: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(truth.parent, folder)
    (folder / "003.png").write_bytes((folder / "003.png").read_bytes()[:500])
    (folder / "005.png").unlink()
    said = check("--truth", str(folder / "truth.csv"))
    assert said.code == 0, said.err
    assert f"94 of 96 in {folder}/truth.csv, their classes by column label_index" in said.out
    assert "1 failed, truncated: " in said.out
    assert f"1 failed, not_found: no such file, such as {folder}/005.png" in said.out


def test_images_of_the_input_by_their_names(checked: Checked, truth: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(truth, elsewhere / "truth.csv")
    code, found = checked("--truth", str(elsewhere / "truth.csv"))
    assert (code, found["images"], found["best"]["top1"]) == (0, 96, 1.0)


def test_folders_named_for_their_class(checked: Checked, truth: Path, tmp_path: Path) -> None:
    for picture in truth.parent.glob("*.png"):
        folder = tmp_path / "val" / str(int(picture.stem) % 24)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
    for source in ("folders", f"{tmp_path}/val"):
        code, found = checked("--truth", source, *sets(f"input.path={tmp_path}/val"))
        assert (code, found["images"], found["best"]["top1"]) == (0, 96, 1.0)
        assert found["truth"] == {"path": source, "column": None, "kind": "index", "left_out": {}}


def test_images_that_are_nowhere(check: Check, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.csv").write_text("uri,label_index\nx.png,0\n")
    said = check("--truth", str(tmp_path / "truth.csv"))
    assert said.code == 2
    assert f"its images are not there, such as {tmp_path}/x.png, and none of the 96 images of input.path" in said.err


def test_the_text_says_it_all(check: Check, truth: Path) -> None:
    said = check("--truth", str(truth), *sets("image.transpose=true"))
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0].startswith("FAIL  ")
    assert lines[0].endswith(": 1 mistake")
    assert "  image:\n    transpose: false\n" in said.out
    assert "or try it first: --set=image.transpose=false" in said.out
    assert "as configured   0.0% (0.0% to 3.8%)      " in said.out
    assert "best found      100.0% (96.2% to 100.0%)" in said.out
    assert "no difference that 96 images can show" in said.out
    assert not [line for line in lines if line != line.rstrip()]


def test_embeddings_are_neither_right_nor_wrong(check: Check, truth: Path) -> None:
    said = check("--truth", str(truth), *sets("model.outputs={embedding: output}", "output.embedding=true"))
    assert said.code == 2
    assert "--truth: the model gives embeddings only" in said.err
