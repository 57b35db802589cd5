from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.judged import judged
from pipeline.evaluation.measures import Confusion, Evaluation, Kept, Mistake, OfClass, ScoreBin, Share, evaluate
from pipeline.intervals import wilson
from pipeline.query import open_output
from tests.labelled_output import failed, labelled, output_of
from transforms.records import Columns, Row

LABELS = ["red", "green", "blue"]


def measured(path: Path, truths: list[int], rows: list[Row], top_k: int = 2, mistakes: int = 10) -> Evaluation:
    output_of(path / "out", rows, LABELS, sections={"output": {"top_k": top_k}})
    (path / "truth.csv").write_text(
        "uri,label_index\n" + "".join(f"{row.uri},{truth}\n" for row, truth in zip(rows, truths, strict=True))
    )
    storage, record = open_output(str(path / "out"))
    with judged(storage, record, str(path / "truth.csv"), None, LABELS) as found:
        return evaluate(found, top_k, mistakes)


# truth, guess, score, second best; no guess: failed
CASES: list[tuple[int, int | None, float, int]] = [
    (0, 0, 0.9375, 1),
    (0, 0, 0.5, 1),
    (0, 1, 0.875, 0),
    (0, 1, 0.25, 2),
    (0, 2, 0.125, 0),
    (1, 1, 0.75, 0),
    (1, None, 0.0, 0),
    (2, 2, 0.625, 0),
]


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    rows = [
        failed(f"/{n}.jpg") if guess is None else labelled(f"/{n}.jpg", guess, score, second)
        for n, (_, guess, score, second) in enumerate(CASES)
    ]
    return measured(tmp_path, [truth for truth, *_ in CASES], rows)


def test_accuracy_counts_failed_images_as_wrong(evaluation: Evaluation) -> None:
    assert (evaluation.images, evaluation.failed, evaluation.k) == (8, 1, 2)
    assert evaluation.top_1 == Share(4, 8)
    assert evaluation.top_k == Share(6, 8)
    assert evaluation.top_1_of_labelled == Share(4, 7)
    assert evaluation.top_1.value == 0.5
    assert (
        evaluation.top_1.interval == wilson(4, 8) == (pytest.approx(0.2152, abs=1e-4), pytest.approx(0.7848, abs=1e-4))
    )


def test_classes(evaluation: Evaluation) -> None:
    assert evaluation.classes == [
        OfClass(0, images=5, failed=0, right=2, in_top=4, guessed=2),
        OfClass(1, images=2, failed=1, right=1, in_top=1, guessed=3),
        OfClass(2, images=1, failed=0, right=1, in_top=1, guessed=2),
    ]
    assert evaluation.classes[1].recall == Share(1, 2)
    assert evaluation.classes[1].precision == Share(1, 3)
    assert [of.index for of in evaluation.worst_classes] == [0, 1]  # 2 of 5 is surer than 1 of 2
    assert evaluation.confusions == [Confusion(0, 1, 2), Confusion(0, 2, 1)]
    assert evaluation.taken_for == {0: [Confusion(0, 1, 2), Confusion(0, 2, 1)]}


def test_calibration_is_of_labelled_images(evaluation: Evaluation) -> None:
    calibration = evaluation.calibration
    assert calibration is not None
    of = [(n, score, truth == guess) for n, (truth, guess, score, _) in enumerate(CASES) if guess is not None]
    expected = []
    for number in range(15):
        here = [(score, right) for _, score, right in of if number <= score * 15 < number + 1]
        if here:
            confidence = sum(score for score, _ in here) / len(here)
            expected.append(
                ScoreBin(number / 15, (number + 1) / 15, len(here), confidence, sum(right for _, right in here))
            )
    assert calibration.bins == expected
    assert [bin.images for bin in calibration.bins] == [1, 1, 1, 1, 1, 1, 1]
    # |right - score| of each image, as each has a bin of its own
    gaps = [abs(right - score) for _, score, right in of]
    assert calibration.error == pytest.approx(sum(gaps) / 7)


def test_a_score_of_one_is_in_the_last_bin(tmp_path: Path) -> None:
    found = measured(tmp_path, [0, 0], [labelled("/a.jpg", 0, 1.0), labelled("/b.jpg", 0, 0.95)])
    assert found.calibration is not None
    [bin] = found.calibration.bins
    assert (bin.start, bin.end, bin.images, bin.right) == (14 / 15, 1.0, 2, 2)
    assert [kept.images for kept in found.curve] == [2, 1]


def test_what_thresholds_keep(evaluation: Evaluation) -> None:
    assert evaluation.curve == [
        Kept(0.125, 7, 4, 8),
        Kept(0.25, 6, 4, 8),
        Kept(0.5, 5, 4, 8),
        Kept(0.625, 4, 3, 8),
        Kept(0.75, 3, 2, 8),
        Kept(0.875, 2, 1, 8),
        Kept(0.9375, 1, 1, 8),
    ]
    assert evaluation.curve[2].coverage == 0.625
    assert evaluation.curve[2].accuracy == Share(4, 5)
    best = Kept(0.9375, 1, 1, 8)
    assert evaluation.thresholds() == [(0.9, best), (0.95, best), (0.99, best)]


def test_a_threshold_keeps_as_many_as_can_be(tmp_path: Path) -> None:
    """Nineteen of twenty are right; the wrong one has the middle score."""
    rows = [labelled(f"/{n}.jpg", int(n == 10), (n + 1) / 25) for n in range(20)]
    found = measured(tmp_path, [0] * 20, rows)
    by_target = dict(found.thresholds())
    assert by_target[0.95] == found.curve[0] == Kept(pytest.approx(0.04), 20, 19, 20)
    assert by_target[0.99] == Kept(pytest.approx(0.48), 9, 9, 20)


def test_no_threshold_helps_where_all_is_wrong(tmp_path: Path) -> None:
    found = measured(tmp_path, [1, 1], [labelled("/a.jpg", 0, 0.5), labelled("/b.jpg", 0, 0.6)])
    assert found.thresholds() == [(0.9, None), (0.95, None), (0.99, None)]
    assert found.top_1 == Share(0, 2)


def test_the_most_confident_mistakes_come_first(evaluation: Evaluation, tmp_path: Path) -> None:
    assert evaluation.mistakes == [Mistake(2, 0, 1, 0.875), Mistake(3, 0, 1, 0.25), Mistake(4, 0, 2, 0.125)]
    rows = [labelled(f"/{n}.jpg", 0, 0.5) for n in range(5)]
    assert [m.row for m in measured(tmp_path / "few", [1] * 5, rows, mistakes=3).mistakes] == [0, 1, 2]


def test_logits_are_no_probabilities(tmp_path: Path) -> None:
    rows = [labelled("/a.jpg", 0, 12.0), labelled("/b.jpg", 1, -3.0)]
    found = measured(tmp_path, [0, 0], rows)
    assert found.calibration is None
    assert found.curve == [Kept(-3.0, 2, 1, 2), Kept(12.0, 1, 1, 2)]


def test_all_failed(tmp_path: Path) -> None:
    found = measured(tmp_path, [0, 1], [failed("/a.jpg"), failed("/b.jpg")])
    assert (found.top_1, found.top_1_of_labelled, found.failed) == (Share(0, 2), Share(0, 0), 2)
    assert (found.curve, found.calibration, found.mistakes, found.confusions) == ([], None, [], [])
    assert [of.failed for of in found.classes] == [1, 1]


def test_top_k_is_five_at_most(tmp_path: Path) -> None:
    """Seven classes are recorded; the truth is the sixth."""
    row: Any = Row(
        0, 0, "/a.jpg", 4, 3, "png", 9, "0", classes=np.arange(7), scores=np.linspace(0.9, 0.1, 7, dtype=np.float32)
    )
    labels = [str(n) for n in range(7)]
    output_of(tmp_path / "out", [row], labels, columns=Columns(top_k=7), sections={"output": {"top_k": 7}})
    (tmp_path / "truth.csv").write_text("uri,label_index\n/a.jpg,5\n")
    storage, record = open_output(str(tmp_path / "out"))
    with judged(storage, record, str(tmp_path / "truth.csv"), None, labels) as found:
        assert (evaluate(found, 7, 1).k, evaluate(found, 7, 1).top_k) == (5, Share(0, 1))
