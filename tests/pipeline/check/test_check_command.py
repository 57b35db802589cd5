"""`hublabel check` without a truth: what it says of a sample, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.check import trial
from pipeline.check.guarded import DEATHS
from tests.pictures import picture_bytes
from tests.pipeline.running import Said
from tests.saved_models import save_fussy, save_signature

Check = Callable[..., Said]
Checked = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "STEADY", 0.3)
    monkeypatch.setenv(DEATHS, "0")  # in this process


def sets(*overrides: str) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


def test_a_good_config_passes_and_nothing_is_written(checked: Checked, tmp_path: Path, truth: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    code, found = checked("--workers", "4", "--price", "0.5")
    assert code == 0
    assert sorted(os.listdir(tmp_path)) == before
    assert [finding["severity"] for finding in found["findings"]] == ["doubt"]  # no labels
    lists = len(list(truth.parent.glob("*.csv")))
    assert found["images"] == {"count": 96, "counted": "exact", "left_out": {"unknown_suffix": lists}}
    assert found["sample"] == {"images": 96, "labelled": 96, "failed": 0}
    assert found["labels"][:2] == [{"label": "0", "count": 4}, {"label": "1", "count": 4}]
    assert sum(label["count"] for label in found["labels"]) == 96
    assert found["values_fed"] == [-1.0, 1.0]
    rate, forecast = found["images_per_second"], found["forecast"]
    assert rate > 0
    assert forecast["seconds_here"] == pytest.approx(96 / rate)
    assert forecast["seconds"] == pytest.approx(96 / rate / 4)
    assert forecast["cost"] == pytest.approx(0.5 * 96 / rate / 3600)
    assert found["peak_memory_bytes"] > 100 << 20
    assert found["config"]["image"]["geometry"] == "crop_resize"
    assert found["config"]["model"]["signature"] == "serving_default"


def test_the_text_begins_with_the_verdict(check: Check, config: Path) -> None:
    said = check("--images", "40")
    lines = said.out.splitlines()
    assert lines[0] == f"PASS  {config}: nothing that would spoil a run, 1 doubt"
    assert lines[2] == "doubt  model.labels is null: the output will have indices and no names"
    assert "images  96 (left out: " in said.out
    assert "        tried: 40 of them, picked from all over: 40 labelled, 0 failed" in lines
    assert "What the config resolved to" in lines
    assert "    geometry: crop_resize" in lines
    assert said.err.splitlines() == [
        f"hublabel: checking {config}", "looking through the input ...", "loading the model ...",
        "labelling the sample ...",
    ]  # fmt: skip


def test_wrong_values_fail(checked: Checked) -> None:
    """All pictures nearly black: the model can only guess."""
    code, found = checked(*sets("image.scale=1000000.0"))
    assert (code, found["passed"]) == (1, False)
    assert found["findings"][0] == {
        "severity": "problem",
        "text": "the scores are little better than guesses: 0.11 in the middle, of 24 classes",
        "advice": "model.activation or the preprocessing is wrong; see --truth",
    }


def test_failures_are_counted_by_reason_with_examples(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, pattern_model: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture_bytes((40 * number, 100, 30)))
    (folder / "4.png").write_bytes(picture_bytes((1, 2, 3))[:60])
    (folder / "5.jpg").write_bytes(b"")
    (folder / "6.jpg").write_bytes(b"")
    code = cli.main(["check", str(config), "--json", *sets(f"input.path={folder}")])
    found = json.loads(capsys.readouterr().out)
    assert code == 0  # so few may fail
    assert found["sample"] == {"images": 7, "labelled": 4, "failed": 3}
    assert [(one["type"], one["count"], one["examples"]) for one in found["failures"]] == [
        ("empty", 2, [f"{folder}/5.jpg", f"{folder}/6.jpg"]), ("truncated", 1, [f"{folder}/4.png"]),
    ]  # fmt: skip


def test_an_input_of_which_nothing_can_be_used(check: Check, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("/nowhere/1.jpg\n/nowhere/2.jpg\n")
    said = check(*sets(f"input.path={tmp_path}/list.txt"))
    assert said.code == 1
    assert "problem  all 2 images of the sample failed, 2 of them as not_found" in said.out
    assert "2 not_found: no such file" in said.out


def test_a_model_that_fails_on_some_images(checked: Checked, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, level in enumerate((10, 20, 250, 100)):  # 250 raises, 100 gives infinity
        (folder / f"{number}.png").write_bytes(picture_bytes((level, level, level)))
    plain = ["image.size=[4, 4]", "image.scale=1.0", "image.mean=[0.0, 0.0, 0.0]"]
    model = save_fussy(tmp_path / "fussy")
    code, found = checked(*sets(f"input.path={folder}", f"model.handle={model}", *plain))
    assert code == 0
    assert sorted(one["type"] for one in found["failures"]) == ["model_error", "non_finite"]
    assert found["sample"] == {"images": 4, "labelled": 2, "failed": 2}


def test_a_model_that_always_fails(check: Check, tmp_path: Path, truth: Path) -> None:
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        checked = tf.debugging.check_numerics(tf.reduce_mean(input, [1, 2]) / 0.0, "broken")
        return {"output": checked}

    model = save_signature(tmp_path / "model", serve)
    said = check(*sets(f"model.handle={model}", "image.size=[4, 4]"))
    assert said.code == 2
    assert "the model fails on float32" in said.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.outputs={logits: nothing}", "model.outputs.logits: no output 'nothing'"),
        ("image.size=[8, 8]", "image.size, image.dtype and batch.size make"),
        ("input.path=nowhere/", "input.path: 'nowhere/' does not exist"),
        ("image.sise=[8, 8]", "unknown key; did you mean image.size?"),
        ("model.handle=nowhere", "model.handle: 'nowhere' does not exist"),
    ],
)
def test_a_bad_config_ends_as_for_a_run(check: Check, override: str, message: str) -> None:
    said = check(*sets(override))
    assert said.code == 2
    assert message in said.err
    assert said.out == ""


def test_the_output_is_looked_at(checked: Checked, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, found = checked(*sets(f"output.path={tmp_path}/file/out"))
    assert code == 1
    assert found["findings"][0]["text"] == f"output.path: {tmp_path}/file/out: {tmp_path}/file is not a folder"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.yaml").write_text("x")
    code, found = checked()
    assert (code, found["model"]["output"]) == (
        0, f"{tmp_path}/out, where a run lies already: the same config goes on with it",
    )  # fmt: skip


def test_nothing_but_its_own_words_is_said(config: Path) -> None:
    """TensorFlow and Beam have much to say when they start."""
    command = [sys.executable, "-m", "pipeline.cli", "check", str(config), "--images", "8", "--json"]
    environment = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL", DEATHS)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["passed"] is True
    assert done.stderr.splitlines() == [
        f"hublabel: checking {config}", "looking through the input ...", "loading the model ...",
        "labelling the sample ...",
    ]  # fmt: skip
