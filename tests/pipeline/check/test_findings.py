"""What is called a problem, what a doubt, and what neither, in trials made up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.check.findings import DOUBT, PROBLEM, Finding, judge
from pipeline.check.rescaling import Rescaling
from pipeline.check.trial import Trial
from pipeline.config import RunConfig
from transforms.errors import ImageError
from transforms.records import Row

CLASSES = 100
LABELS = [f"label {number}" for number in range(CLASSES)]


def config_of(**sections: Any) -> RunConfig:
    values: dict[str, Any] = {"input": {"path": "x"}, "model": {"handle": "m"}, "output": {"path": "o"}}
    return RunConfig.model_validate({name: {**values.get(name, {}), **sections.get(name, {})}
                                     for name in {*values, *sections}})  # fmt: skip


def labelled(classes: Sequence[int], score: float | Sequence[float] = 0.6) -> list[Row]:
    rows = []
    for position, best in enumerate(classes):
        row = Row(position, position, f"/{position}.jpg", sha256=str(position))
        row.classes = np.array([best])
        row.scores = np.array([score if isinstance(score, float) else score[position]], np.float32)
        rows.append(row)
    return rows


def failed(count: int, kind: str = "truncated") -> list[Row]:
    rows = [Row(1000 + position, 1000 + position, f"/{position}.jpg") for position in range(count)]
    for row in rows:
        row.fail(ImageError("decode", kind, "it ends"))
    return rows


def found(trial: Trial, config: RunConfig | None = None, **more: Any) -> list[Finding]:
    options = {"images": 10_000, "classes": CLASSES, "labels": LABELS, **more}
    return judge(trial, config or config_of(), **options)


def one(trial: Trial, config: RunConfig | None = None, **more: Any) -> tuple[str, str]:
    """Severity and text of the only finding."""
    [finding] = found(trial, config, **more)
    return finding.severity, finding.text


GOOD = range(40)


def test_nothing_is_wrong() -> None:
    chance = np.random.default_rng(0)
    trial = Trial(labelled(GOOD), {"logits": chance.normal(0, 3, (40, CLASSES))}, fed=(-2.1, 2.6))
    assert found(trial) == []


def test_failures_against_the_budget() -> None:
    assert found(Trial(labelled(GOOD) + failed(1))) == [
        Finding(DOUBT, "2.4% of the sample failed: a run may end early, run.max_failed allows 500 of 10,000",
                "check with more --images")
    ]  # fmt: skip
    assert one(Trial(labelled(GOOD) + failed(10))) == (
        PROBLEM, "20.0% of the sample failed: a run would end early, run.max_failed allows 500 of 10,000",
    )  # fmt: skip
    generous = config_of(run={"max_failed": {"fraction": 0.5}})
    assert found(Trial(labelled(GOOD) + failed(10)), generous) == []
    assert found(Trial(labelled(GOOD) + failed(10)), images=50) == []  # 100 may always fail
    assert one(Trial(failed(4) + failed(1, "not_found"))) == (
        PROBLEM, "all 5 images of the sample failed, 4 of them as truncated",
    )  # fmt: skip


def probabilities(count: int = 40) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0, 1, (count, CLASSES))
    return values / values.sum(axis=1, keepdims=True)


def test_outputs_that_are_probabilities_already() -> None:
    text = "the model's outputs are probabilities already: each image's are from 0 to 1 and add up to 1"
    [finding] = found(Trial(labelled(GOOD), {"logits": probabilities()}))
    assert finding == Finding(
        PROBLEM, f"{text}; softmax spoils them", "model: {outputs: {probabilities: output}, activation: none}"
    )
    none = config_of(model={"handle": "m", "outputs": {"probabilities": "output"}})
    assert found(Trial(labelled(GOOD), {"probabilities": probabilities()}), none) == []
    sigmoids = np.random.default_rng(0).uniform(0, 1, (40, CLASSES))
    assert one(Trial(labelled(GOOD), {"logits": sigmoids}))[0] == DOUBT


def test_outputs_that_are_no_probabilities() -> None:
    config = config_of(model={"handle": "m", "outputs": {"probabilities": "scores"}})
    logits = np.random.default_rng(0).normal(0, 3, (40, CLASSES))
    [finding] = found(Trial(labelled(GOOD), {"probabilities": logits}), config)
    assert finding.severity == PROBLEM
    assert finding.text.startswith("model.outputs.probabilities are none: they go from -")
    assert finding.advice == "model: {outputs: {logits: scores}, activation: softmax}"


def test_a_model_that_says_the_same_of_everything() -> None:
    same = np.tile(np.arange(CLASSES, dtype=float) - 3, (40, 1))
    assert one(Trial(labelled(GOOD), {"logits": same})) == (
        PROBLEM, "the model says the same of 40 different images, to the last digit",
    )  # fmt: skip
    copies = labelled(GOOD)
    for row in copies:
        row.sha256 = "same"
    assert found(Trial(copies, {"logits": same})) == []  # it is one image many times


@pytest.mark.parametrize(
    ("classes", "labels", "severity", "text"),
    [
        ([7] * 39 + [1], CLASSES, PROBLEM, "98% of the images got one label: label 7"),
        ([7] * 24 + list(range(16)), CLASSES, DOUBT, "62% of the images got one label: label 7"),
        ([1] * 39 + [0], 2, DOUBT, "98% of the images got one label: label 1"),  # few classes: safe or not, say
    ],
)
def test_one_label_for_nearly_all(classes: list[int], labels: int, severity: str, text: str) -> None:
    assert one(Trial(labelled(classes)), classes=labels, labels=LABELS[:labels]) == (severity, text)


def test_few_images_may_well_be_of_one_kind() -> None:
    assert found(Trial(labelled([7] * 19))) == []
    assert found(Trial(labelled([1] * 30 + [0] * 10)), classes=2, labels=LABELS[:2]) == []


def test_background() -> None:
    config = config_of(model={"handle": "m", "label_offset": 1})
    assert one(Trial(labelled([0] * 20 + list(range(1, 21)))), config) == (DOUBT, "50% of the images are background")
    assert found(Trial(labelled([0] * 2 + list(range(1, 39)))), config) == []


@pytest.mark.parametrize(
    ("score", "severity", "text"),
    [
        (0.027, PROBLEM, "the scores are little better than guesses: 0.027 in the middle, of 100 classes"),
        (0.08, DOUBT, "the scores are low: 0.08 in the middle"),
        (1.0, DOUBT, "100% of the scores are 0.9999 or more"),
    ],
)
def test_scores(score: float, severity: str, text: str) -> None:
    assert one(Trial(labelled(GOOD, score))) == (severity, text)


def test_scores_of_sigmoids_and_of_none() -> None:
    sigmoid = config_of(model={"handle": "m", "activation": "sigmoid"})
    assert found(Trial(labelled(GOOD, 0.027)), sigmoid) == []
    none = config_of(model={"handle": "m", "activation": "none"})
    assert one(Trial(labelled(GOOD, 7.5)), none) == (
        DOUBT, "model.activation is none: the scores will be logits, not from 0 to 1",
    )  # fmt: skip


PLAIN = "image: {scale: 1.0, mean: [0.0, 0.0, 0.0], std: [1.0, 1.0, 1.0]}"


@pytest.mark.parametrize(
    ("fed", "rescaling", "severity", "advice"),
    [
        ((-2.1, 2.6), Rescaling(1 / 127.5, -1.0), PROBLEM, PLAIN),
        ((0.0, 255.0), Rescaling(1 / 127.5, -1.0), None, ""),
        ((0.0, 255.0), Rescaling(2.0, -1.0), PROBLEM, PLAIN.replace("scale: 1.0", "scale: 255.0")),
        ((0.0, 1.0), Rescaling(2.0, -1.0), None, ""),
        ((-2.1, 2.6), Rescaling(1.0, -0.3), None, ""),
        ((0.0, 255.0), None, DOUBT, "see the model's page; check --truth measures what is right"),
        ((-2.1, 2.6), None, None, ""),
    ],
)
def test_values_against_the_models_own_rescaling(fed: Any, rescaling: Any, severity: str | None, advice: str) -> None:
    findings = found(Trial(labelled(GOOD), fed=fed), rescaling=rescaling)
    assert [(finding.severity, finding.advice) for finding in findings] == ([(severity, advice)] if severity else [])


def test_bytes_are_what_they_are() -> None:
    config = config_of(image={"dtype": "uint8"})
    assert found(Trial(labelled(GOOD), fed=(0.0, 255.0)), config, rescaling=Rescaling(1 / 127.5, -1.0)) == []


def test_problems_come_first() -> None:
    findings = found(Trial(labelled([7] * 40, 0.08)), labels=None)
    assert [finding.severity for finding in findings] == [PROBLEM, DOUBT, DOUBT]
    assert findings[0].text == "100% of the images got one label: class 7"
    assert findings[-1].text == "model.labels is null: the output will have indices and no names"
