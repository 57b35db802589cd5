"""`hublabel check --truth` with EfficientNet-Lite0 and 200 labelled photos: each mistake that is planted is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.check.labelled import labelled_images
from pipeline.check.measure import Bench, open_pictures
from pipeline.check.search import search
from pipeline.check.settings import configured_setting
from pipeline.check.truth_summary import TruthSummary
from pipeline.config import load_config
from pipeline.loading import model_spec
from pipeline.reading import reader
from pipeline.truth import read_truth
from transforms.model import load_classifier

CHECKOUT = Path(__file__).resolve().parents[2]
TRUTH = CHECKOUT.parent / "shared" / "imagenet_sample" / "truth.csv"
CONFIG = str(CHECKOUT / "configs/quickstart.yaml")
MODEL = str(CHECKOUT / "models/efficientnet-lite0")

ZERO_ONE = ["image.scale=255.0", "image.mean=[0.0, 0.0, 0.0]", "image.std=[1.0, 1.0, 1.0]"]
MINUS_ONE_ONE = ["image.scale=127.5", "image.mean=[1.0, 1.0, 1.0]", "image.std=[1.0, 1.0, 1.0]"]
BYTES = ["image.scale=1.0", "image.mean=[0.0, 0.0, 0.0]", "image.std=[1.0, 1.0, 1.0]"]
IMAGENET = ["image.scale=255.0", "image.mean=[0.485, 0.456, 0.406]", "image.std=[0.229, 0.224, 0.225]"]
NO_SCALE = ["image.scale=1.0", *IMAGENET[1:]]
STRETCH, PAD = (["image.fraction=1.0", f"image.geometry={name}"] for name in ("stretch", "pad"))
TRANSPOSED, BGR = ["image.transpose=true"], ["image.channels=bgr"]
OFFSET = ["model.label_offset=1", "model.labels=null"]
RIGHT_VALUES = {"image.scale": 127.5, "image.mean": [1.0, 1.0, 1.0], "image.std": [1.0, 1.0, 1.0]}
RIGHT_CROPS = [("crop_resize", 0.875), ("resize_crop", 0.875)]  # 200 photos show no difference


@pytest.fixture(scope="module")
def bench() -> Bench:
    """The photos and the model; what is measured once is known to all tests."""
    config = load_config(CONFIG, [f"model.handle={MODEL}"])
    rows, classes = labelled_images(read_truth(str(TRUTH)), config, 200)
    pictures = [picture for picture in open_pictures(rows, config.preprocessing(), reader(config)) if picture]
    assert len(pictures) == 200
    return Bench(pictures, classes, (-1, 0, 1, 2), load_classifier(model_spec(config, MODEL)), "logits")


def checked(bench: Bench, planted: list[str]) -> dict[str, Any]:
    """What the command says as JSON."""
    config = load_config(CONFIG, planted)
    found = search(bench, configured_setting(config))
    summary = TruthSummary(CONFIG, str(TRUTH), read_truth(str(TRUTH)), [], bench, found, 1000, None)
    return summary.values()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("planted", "groups"),
    [
        (TRANSPOSED, ["transpose"]),
        (BGR, ["channels"]),
        (STRETCH, ["geometry"]),
        (PAD, ["geometry"]),
        (ZERO_ONE, ["values"]),
        (BYTES, ["values"]),
        (IMAGENET, ["values"]),
        (NO_SCALE, ["values"]),
        (OFFSET, ["label_offset"]),
        ([*BGR, *STRETCH, *OFFSET], ["label_offset", "channels", "geometry"]),
        ([*OFFSET, *TRANSPOSED, *BGR, *IMAGENET, *STRETCH],
         ["label_offset", "values", "transpose", "channels", "geometry"]),
    ],
    ids=lambda value: " ".join(value) if value and "=" not in value[0] else "",
)  # fmt: skip
def test_planted_mistakes_are_named(bench: Bench, planted: list[str], groups: list[str]) -> None:
    found = checked(bench, planted)
    assert not found["passed"]
    assert list(found["groups"]) == groups
    assert len(found["mistakes"]) == len(groups)
    changes = found["changes"]
    wanted = {
        "transpose": {"image.transpose": False}, "channels": {"image.channels": "rgb"},
        "label_offset": {"model.label_offset": 0}, "values": RIGHT_VALUES,
        "geometry": {name: changes.get(name) for name in ("image.geometry", "image.fraction")},
    }  # fmt: skip
    assert changes == {key: value for group in groups for key, value in wanted[group].items()}
    if "geometry" in groups:
        assert (changes["image.geometry"], changes["image.fraction"]) in RIGHT_CROPS
    assert found["best"]["top1"] >= 0.87
    assert checked(bench, [*planted, *found["overrides"]])["passed"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "near",
    [MINUS_ONE_ONE, ["image.antialias=true"], ["image.resample=bilinear"], ["image.geometry=resize_crop"]],
    ids=lambda value: value[0],
)
def test_what_200_photos_cannot_show_is_no_mistake(bench: Bench, near: list[str]) -> None:
    found = checked(bench, near)
    assert (found["passed"], found["mistakes"], found["changes"]) == (True, [], {})
    verdicts = {one["name"]: one["verdict"] for one in found["tried"]}
    assert {verdicts.get(name, "no difference") for name in ("bilinear, antialias false", "bicubic, antialias true",
            "resize_crop 0.875", "crop_resize 0.875", "values in [-1, 1]")} == {"no difference"}  # fmt: skip
    assert verdicts["transpose true"] == verdicts["channels bgr"] == verdicts["values 0..255"] == "worse"


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "code"), [([], 0), (TRANSPOSED, 1)], ids=["as it is", "transposed"])
def test_the_command(planted: list[str], code: int) -> None:
    sets = [argument for override in planted for argument in ("--set", override)]
    command = [sys.executable, "-m", "pipeline.cli", "check", "configs/quickstart.yaml", "--truth", str(TRUTH), *sets]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == code, done.stderr
    verdict, *lines = done.stdout.splitlines()
    if code:
        assert verdict == "FAIL  configs/quickstart.yaml: 1 mistake"
        assert lines[1].startswith("mistake  image.transpose: false, not true: top-1 +")
        assert lines[lines.index("  image:") + 1] == "    transpose: false"
    else:
        assert verdict == "PASS  configs/quickstart.yaml: as configured is best"
    assert any(line.startswith("no difference that 200 images can show") for line in lines)


@pytest.mark.slow
def test_a_check_without_a_truth_of_the_photos() -> None:
    command = [sys.executable, "-m", "pipeline.cli", "check", "configs/quickstart.yaml", "--json",
               "--set", f"input.path={TRUTH.parent}/images"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=True)
    found = json.loads(done.stdout)
    assert (found["passed"], found["findings"]) == (True, [])
    assert found["sample"] == {"images": 200, "labelled": 200, "failed": 0}
    assert found["images_per_second"] > 1
