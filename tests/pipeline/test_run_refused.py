"""Runs that must not start, or not go on: one message, the right exit code, nothing labelled, no traceback."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.lock import output_lock
from tests.pictures import COLOURS, picture_bytes
from tests.pipeline.running import ChildInProcess, Hublabel, Said, expected_row, fingerprints
from tests.saved_models import save_fussy, save_signature

BEGUN = "was begun with other settings, and one output holds labels of one kind:\n  "


def refusal(said: Said, code: int = 2) -> str:
    """The message of a command that was refused in good form."""
    assert said.code == code, said
    assert "Traceback" not in said.err
    assert said.out == ""
    return said.err.partition("hublabel: ")[2].partition("\nhublabel: ")[2].removesuffix("\n")


# Pinned runs.


def other_labels(hublabel: Hublabel) -> list[str]:
    path = hublabel.output.parent / "other.txt"
    path.write_text("rouge\nvert\nbleu\n")
    return ["--set", f"model.labels={path}"]


def other_model(hublabel: Hublabel) -> list[str]:
    import tensorflow as tf

    def serve(input: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.reduce_mean(input, [1, 2])
        return {"output": found, "features": -found}

    path = save_signature(hublabel.output.parent / "other", serve, tf.TensorSpec([None, 8, 8, 3], name="input"))
    return ["--set", f"model.handle={path}"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--set", "image.scale=2"], ["image.scale: the run has 1.0, now it is 2.0"]),
        (["--set", "image.channels=bgr"], ['image.channels: the run has "rgb", now it is "bgr"']),
        (["--set", "output.top_k=2"], ["output.top_k: the run has 3, now it is 2"]),
        (["--set", "model.label_offset=1"], ["model.label_offset: the run has 0, now it is 1"]),
        (["--set", "output.logits=true"], ["output.logits: the run has false, now it is true"]),
        (["--limit", "3"], ["input.limit: the run has null, now it is 3"]),
        (other_labels, ["label file: their contents differ from the run's"]),
        (other_model, ["model files: their contents differ from the run's"]),
        (
            ["--set", "image.mean=[1,1,1]", "--set", "model.activation=sigmoid"],
            [
                "image.mean: the run has [0.0, 0.0, 0.0], now it is [1.0, 1.0, 1.0]",
                'model.activation: the run has "softmax", now it is "sigmoid"',
            ],
        ),
    ],
)
def test_a_run_with_parts_is_pinned(
    hublabel: Hublabel, change: list[str] | Callable[[Hublabel], list[str]], said: list[str]
) -> None:
    hublabel.labelled()
    before, record = fingerprints(hublabel.output), (hublabel.output / "run.yaml").read_bytes()
    message = refusal(hublabel.run(*(change if isinstance(change, list) else change(hublabel))))
    expected = "\n  ".join(said)
    assert message.startswith(f"{hublabel.output} {BEGUN}{expected}\n")
    assert message.endswith("choose another output.path, or go back to those settings")
    assert fingerprints(hublabel.output) == before
    assert (hublabel.output / "run.yaml").read_bytes() == record
    assert "nothing to do" in hublabel.run().out


def test_one_part_is_enough_to_pin(hublabel: Hublabel) -> None:
    hublabel.labelled()
    for part in hublabel.parts()[1:]:
        part.unlink()
    assert "image.scale: the run has 1.0, now it is 2.0" in refusal(hublabel.run("--set", "image.scale=2"))


def test_without_a_part_a_run_is_planned_anew(
    hublabel: Hublabel, picture_folder: Path, children: type[ChildInProcess]
) -> None:
    refusal(hublabel.run("--set", "model.outputs.logits=nothing", "--set", "input.limit=3"))
    assert (hublabel.output / "run.yaml").exists()
    said = hublabel.run()
    assert said.code == 0
    assert "10 images in 3 shards\n" in said.err
    assert hublabel.rows() == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert children.started == 2


def test_a_damaged_record_is_refused(hublabel: Hublabel) -> None:
    hublabel.labelled()
    record = hublabel.output / "run.yaml"
    record.write_text(record.read_text().replace("image.scale: 1.0", "image.scale: 2.0"))
    message = refusal(hublabel.run())
    assert message == f"{record}: damaged (it was edited); restore it, or choose another output.path"


def test_a_plan_that_is_gone_is_told(hublabel: Hublabel) -> None:
    hublabel.labelled()
    hublabel.parts()[0].unlink()
    shutil.rmtree(hublabel.output / "plan")
    said = hublabel.run()
    assert said.code in (1, 2)
    assert "plan/plan-00000.parquet" in said.err


@pytest.mark.parametrize("runner", ["DirectRunner", "PortableRunner"])
def test_a_run_that_would_write_its_job_instead_of_submitting_it(
    hublabel: Hublabel, children: type[ChildInProcess], runner: str
) -> None:
    """Before anything is planned, or looked for at a job service."""
    options = f"runner.options={{template_location: {hublabel.output.parent}/job, environment_type: LOOPBACK}}"
    message = refusal(hublabel.run("--set", f"runner.name={runner}", "--set", options))
    assert message == ("runner.options.template_location: a run submits its job; to have it written use --dry-run")
    assert not hublabel.output.exists()
    assert children.started == 0


# What the config names does not fit together.


@pytest.mark.parametrize(
    ("labels", "change", "said"),
    [
        (
            ["red", "green"], [],
            "has 2 labels, and the model has 3 classes; it must have 3 lines, one a class in the model's order; "
            "if class 0 is background, set model.label_offset: 1",
        ),
        (
            [*COLOURS, "more"], [],
            "has 4 labels, and the model has 3 classes; it must have 3 lines, one a class in the model's order",
        ),
        (
            COLOURS, ["--set", "model.label_offset=1"],
            "has 3 labels, and the model has 3 classes less model.label_offset 1; it must have 2 lines, one a class in "
            "the model's order",
        ),
    ],
)  # fmt: skip
def test_another_number_of_labels(hublabel: Hublabel, labels: list[str], change: list[str], said: str) -> None:
    path = hublabel.output.parent / "some.txt"
    path.write_text("\n".join(labels) + "\n")
    message = refusal(hublabel.run("--set", f"model.labels={path}", *change))
    assert message == f"model.labels: {path} {said}"
    assert hublabel.parts() == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("model.signature=predict", "model.signature: no signature 'predict'; the model has serving_default"),
        ("model.input=image", "model.input: no input 'image'; the model has input"),
        ("model.outputs.logits=z", "model.outputs.logits: no output 'z'; the model has features, output"),
        ("model.signature=null", "model.signature is null, and the model's object cannot be called; name a signature"),
        (
            "image.size=[9, 8]",
            "the model takes float32 [-1, 8, 8, 3], and image.size, image.dtype and batch.size make "
            "float32 [2, 9, 8, 3]",
        ),
        ("runner.options={zzzzqqqq: 1}", "runner.options.zzzzqqqq: Beam has no such pipeline option"),
    ],
)
def test_what_the_model_and_the_runner_do_not_know(hublabel: Hublabel, key: str, said: str) -> None:
    assert refusal(hublabel.run("--set", key)) == said
    assert hublabel.parts() == []


def test_uint8_for_a_float_model(hublabel: Hublabel) -> None:
    text = hublabel.config.read_text()
    hublabel.config.write_text(re.sub(r"image: .*", "image: {size: [8, 8], dtype: uint8}", text))
    message = refusal(hublabel.run())
    assert message.endswith("image.size, image.dtype and batch.size make uint8 [2, 8, 8, 3]")


# Nothing there, or nothing to write to; found before any process is started.


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("input.path", "nowhere", "nowhere"),
        ("model.handle", "nowhere", "model.handle: 'nowhere' does not exist"),
        ("model.labels", "nowhere.txt", "nowhere.txt cannot be read: No such file or directory"),
        ("model.labels", "gap.txt", "model.labels: line 2 of "),
        ("output.path", "taken", "output.path: "),
        ("run.shard_size", "0", "run.shard_size"),
        ("output.colour", "red", "output.colour"),
    ],
)
def test_what_is_not_there(
    hublabel: Hublabel,
    children: type[ChildInProcess],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    key: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "gap.txt").write_text("red\n\nblue\n")
    assert said in refusal(hublabel.run("--set", f"{key}={value}"))
    assert children.started == 0
    assert not (tmp_path / "out" / "run.yaml").exists()


def test_an_empty_folder(hublabel: Hublabel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refusal(hublabel.run("--set", f"input.path={tmp_path}/empty"))


def test_an_output_at_which_another_run_is_at_work(hublabel: Hublabel) -> None:
    with output_lock(str(hublabel.output)):
        message = refusal(hublabel.run(), code=1)
    assert message.startswith(f"{hublabel.output}: process ")
    assert message.endswith(" is at work on this output; wait for it, or stop it")
    assert hublabel.labelled()


# A model that turns out broken, and one that is only fussy.


@pytest.fixture
def fussy(hublabel: Hublabel) -> Hublabel:
    """Fails on values above 200, and answers infinity to 100; pictures 0 and 1 are of the values 0 and 1."""
    path = save_fussy(hublabel.output.parent / "fussy")
    text = re.sub(r"model: .*", f"model: {{handle: {path}}}", hublabel.config.read_text())
    hublabel.config.write_text(text.replace("size: [8, 8]", "size: [4, 4]"))
    photos = hublabel.output.parent / "photos"
    for number, value in enumerate([255, 254, 5, 253, 7, 100, 9, 8, 255, 100]):
        (photos / f"{number:03d}.png").write_bytes(picture_bytes((value, value, value)))
    return hublabel


def test_images_that_the_model_fails_on_are_failed_rows(fussy: Hublabel) -> None:
    rows = fussy.labelled("--set", "batch.size=4", "--set", "run.shard_size=10")
    found = {row["row"]: (row["error_stage"], row["error_type"]) for row in rows if row["status"] == "failed"}
    assert found == dict.fromkeys((0, 1, 3, 8), ("model", "model_error")) | dict.fromkeys(
        (5, 9), ("model", "non_finite")
    )
    assert "a value above 200" in rows[0]["error_message"]
    assert rows[0]["sha256"] is not None
    assert rows[0]["width"] == 20
    assert rows[9]["error_message"] == "the model's logits are NaN or infinite"
    assert [row["label_index"] for row in rows if row["status"] == "ok"] == [0, 0, 0, 0]
    assert fussy.report()["errors"] == {"model/model_error": 4, "model/non_finite": 2}


def test_a_model_that_fails_on_everything_ends_the_run(fussy: Hublabel) -> None:
    said = fussy.run("--limit", "2")
    assert said.code == 1
    assert "hublabel: the model fails on every image: InvalidArgumentError: a value above 200" in said.err
    assert said.err.endswith("The end of run.log:\n(the last 20 lines)\n")
    assert fussy.parts() == []
    assert not (fussy.output / "_SUCCESS").exists()


def test_what_is_left_of_a_run_may_be_what_the_model_fails_on(fussy: Hublabel) -> None:
    settings = ("--set", "batch.size=4", "--set", "run.shard_size=8")
    last = [fussy.output.parent / "photos" / f"{number:03d}.png" for number in (8, 9)]
    bad = [path.read_bytes() for path in last]
    for path in last:
        path.write_bytes(picture_bytes((1, 1, 1)))
    assert [row["status"] for row in fussy.labelled(*settings)][8:] == ["ok", "ok"]
    for path, data in zip(last, bad, strict=True):
        path.write_bytes(data)
    (fussy.output / "predictions" / "00000" / "part-00001.parquet").unlink()
    (fussy.output / "_SUCCESS").unlink()
    reasons = [row["error_type"] for row in fussy.labelled(*settings)]
    assert reasons[8:] == ["model_error", "non_finite"]


def test_a_retry_of_what_the_model_fails_on_ends_like_any_other(fussy: Hublabel) -> None:
    before = fussy.labelled("--set", "batch.size=4", "--set", "run.shard_size=10")
    assert cli.main(["retry", str(fussy.output)]) == 0
    assert fussy.rows() == before
