"""A lower precision against float32: measured once a run on its own images, said, and kept in the report."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.agreement import Agreement, _agreement, _spread
from pipeline.config import RunConfig
from pipeline.errors import HublabelError
from tests.pipeline.running import Hublabel
from transforms.engines.engine import ModelError
from transforms.engines.processor import has_bfloat16
from transforms.engines.reference import Reference

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


def config(**model: Any) -> RunConfig:
    values = {"handle": "m", "precision": "bfloat16", **model}
    output = {"path": "o", "embedding": "embedding" in values.get("outputs", {})}
    return RunConfig.model_validate({"input": {"path": "p"}, "model": values, "output": output})


def array(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_best_classes_and_scores_are_compared_over_all_batches() -> None:
    given = config(activation="none", outputs={"logits": "output"})
    pairs = [
        ({"logits": array([1, 2, 4])}, {"logits": array([1, 2, 4.25])}),
        ({"logits": array([3, 2, 0], [5, 5.5, 1])}, {"logits": array([3, 2, 0], [5.5, 5, 1])}),
    ]
    found = _agreement(given, "TensorFlow 2", pairs)
    assert found == Agreement("bfloat16", "TensorFlow 2", 3, 2 / 3, 0.5, {"logits": pytest.approx(0.5 / 5.5)})
    assert str(found) == (
        "bfloat16 against float32 (TensorFlow 2) on 3 images: the same best class for 66.7%, "
        "scores differ by up to 0.5, logits by up to 0.091 of the largest"
    )


def test_scores_are_what_the_activation_makes_of_logits() -> None:
    found = _agreement(config(), "", [({"logits": array([0, np.log(3)])}, {"logits": array([0, 0])})])
    assert found.score_difference == pytest.approx(0.25)
    assert found.top1 == 0.0


def test_probabilities_count_before_logits() -> None:
    given = config(outputs={"logits": "z", "probabilities": "p"})
    ours = {"logits": array([9, 0]), "probabilities": array([0.25, 0.75])}
    theirs = {"logits": array([0, 9]), "probabilities": array([0.5, 0.5])}
    found = _agreement(given, "", [(ours, theirs)])
    assert (found.top1, found.score_difference) == (0.0, 0.25)
    assert found.output_difference == {"logits": 1.0, "probabilities": 0.5}


def test_embeddings_have_no_classes() -> None:
    found = _agreement(
        config(outputs={"embedding": "e"}), "T", [({"embedding": array([1, 2])}, {"embedding": array([1, 4])})]
    )
    assert found == Agreement("bfloat16", "T", 1, None, None, {"embedding": 0.5})
    assert str(found) == "bfloat16 against float32 (T) on 1 images: embedding by up to 0.5 of the largest"


def test_images_without_finite_outputs_do_not_count() -> None:
    ours, theirs = array([np.nan, 1], [1, 2], [1, 2]), array([0, 1], [1, np.inf], [2, 1])
    found = _agreement(config(activation="none"), "", [({"logits": ours}, {"logits": theirs})])
    assert (found.images, found.top1) == (1, 0.0)


@pytest.mark.parametrize("pairs", [[], [({"logits": array([np.nan])}, {"logits": array([1])})]])
def test_nothing_to_compare_is_said(pairs: list[Any]) -> None:
    found = _agreement(config(), "TensorFlow 2", pairs)
    assert found == Agreement("bfloat16", "TensorFlow 2", 0, None, None, {})
    assert str(found) == "bfloat16 could not be compared with float32: no image of the sample could be labelled"


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))), (99, list(range(10)))]
)
def test_a_sample_is_spread(count: int, chosen: list[int]) -> None:
    assert _spread(range(10), count) == chosen
    assert _spread([], count) == []


@needs_bfloat16
@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_a_run_in_another_precision_says_how_far_it_agrees(
    hublabel: Hublabel, picture_folder: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(hublabel.output.parent / "cache"))
    (picture_folder / "004.png").write_bytes(b"broken")
    settings = ["--set", "model.precision=bfloat16", "--set", f"model.engine={engine}"]
    said = hublabel.run(*settings)
    assert said.code == 0, said.err
    (line,) = [line for line in said.err.splitlines() if "bfloat16 against float32 (TensorFlow " in line]
    assert " on 9 images: the same best class for 100.0%, scores differ by up to " in line
    kept = json.loads((hublabel.output / "agreement.json").read_text())
    assert kept["images"] == 9
    assert kept["top1"] == 1.0
    assert 0 <= kept["score_difference"] < 0.05
    assert set(kept["output_difference"]) == {"logits", "embedding"}
    assert hublabel.report()["precision"] == kept
    assert hublabel.report()["fingerprints"]["pins"]["model.precision"] == "bfloat16"
    (hublabel.output / "_SUCCESS").unlink()
    next((hublabel.output / "predictions").rglob("part-*.parquet")).unlink()
    again = hublabel.run(*settings)
    assert again.code == 0, again.err
    assert "against float32" not in again.err  # measured once a run


BFLOAT16 = ("--set", "model.precision=bfloat16", "--set", "model.engine=openvino")


def fails(reference: Reference, *_: Any) -> None:
    raise ModelError("the process that asks TensorFlow died (exit code -9)")


@needs_bfloat16
def test_a_model_that_tensorflow_does_not_take_labels_nothing(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reference, "load", fails)
    said = hublabel.run(*BFLOAT16)
    assert said.code == 1
    assert "the process that asks TensorFlow died (exit code -9)" in said.err
    assert not hublabel.parts()


@needs_bfloat16
def test_a_comparison_that_fails_is_told_and_made_by_the_next_session(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Reference, "outputs", fails)
        said = hublabel.run(*BFLOAT16)
    assert said.code == 0, said.err
    assert "bfloat16 could not be compared with float32: the process that asks TensorFlow died" in said.err
    assert not (hublabel.output / "agreement.json").exists()
    assert len(hublabel.rows()) == 10
    (hublabel.output / "_SUCCESS").unlink()
    hublabel.parts()[0].unlink()
    assert "bfloat16 against float32 (TensorFlow " in hublabel.run(*BFLOAT16).err
    assert json.loads((hublabel.output / "agreement.json").read_text())["images"] > 0


@needs_bfloat16
def test_labelling_that_fails_does_not_wait_for_the_comparison(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waited = threading.Event(), []
    close = Reference.close

    def outputs(reference: Reference, batches: Any) -> None:
        waited.append(ended.wait(20))
        fails(reference)

    def closed(reference: Reference) -> None:
        close(reference)
        ended.set()

    def label(*_: Any) -> None:
        assert not ended.is_set()
        raise HublabelError("no labels today")

    monkeypatch.setattr(Reference, "outputs", outputs)
    monkeypatch.setattr(Reference, "close", closed)
    monkeypatch.setattr("pipeline.child._label", label)
    said = hublabel.run(*BFLOAT16)
    assert said.code == 1
    assert "no labels today" in said.err
    assert waited == [True]  # it was ended, and not waited for


def test_exact_runs_measure_nothing(hublabel: Hublabel, picture_folder: Path) -> None:
    hublabel.labelled()
    assert not (hublabel.output / "agreement.json").exists()
    assert hublabel.report()["precision"] is None


def test_a_precision_that_the_engine_does_not_have_is_refused_at_once(hublabel: Hublabel) -> None:
    said = hublabel.run("--set", "model.precision=float16", "--set", "model.engine=openvino")
    assert said.code == 2
    assert (
        "model.precision: 'float16' is not valid: with model.engine: openvino it must be float32, bfloat16 or int8"
        in said.err
    )
