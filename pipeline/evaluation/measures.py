"""What predictions are worth, measured on those whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.judged import Judged
from pipeline.intervals import wilson

TOP = 5
CALIBRATION_BINS = 15  # as in Guo et al., see `Calibration`
STEPS = 1000  # thresholds that are tried
TARGETS = (0.9, 0.95, 0.99)  # accuracies for which a threshold is looked for
PAIRS = 25  # confusions that are told
WORST = 25  # classes that are told to be the worst
GUESSES = 3  # of each of these, what its images are taken for


@dataclass(frozen=True)
class Share:
    """So many of so many, and the 95 % interval (Wilson's, see `intervals.wilson`) of the proportion behind it."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.of) if self.of else (0.0, 1.0)


@dataclass(frozen=True)
class OfClass:
    """What became of the images of one class.

    Attributes:
        images: with this class for truth; failed: of these, without a label.
        right: labelled as this class; in_top: it is among the best classes.
        guessed: images, of whatever class, that were labelled so.
    """

    index: int
    images: int
    failed: int
    right: int
    in_top: int
    guessed: int

    @property
    def recall(self) -> Share:
        """The accuracy on images of this class."""
        return Share(self.right, self.images)

    @property
    def precision(self) -> Share:
        """How often the label is right where it is given."""
        return Share(self.right, self.guessed)


@dataclass(frozen=True)
class Confusion:
    """Images of class `truth` labelled as `guess`."""

    truth: int
    guess: int
    images: int


@dataclass(frozen=True)
class ScoreBin:
    """Labelled images with scores from `start` to `end`: how many, their mean score, how many are right."""

    start: float
    end: float
    images: int
    confidence: float
    right: int

    @property
    def accuracy(self) -> Share:
        return Share(self.right, self.images)


@dataclass(frozen=True)
class Calibration:
    """Whether scores are probabilities: bins of equal width, and the expected calibration error.

    ECE is the mean over images of |accuracy - mean score| of the bin each is in: Guo, Pleiss, Sun, Weinberger, "On
    Calibration of Modern Neural Networks", ICML 2017 (after Naeini et al., AAAI 2015), with 15 bins as there.
    """

    bins: list[ScoreBin]
    error: float


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps: labelled images with at least this score, and those of them that are right.

    Selective classification: El-Yaniv, Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 11
    (2010). Failed images are never kept, and count in the coverage.
    """

    threshold: float
    images: int
    right: int
    of: int

    @property
    def coverage(self) -> float:
        return self.images / self.of

    @property
    def accuracy(self) -> Share:
        return Share(self.right, self.images)


@dataclass(frozen=True)
class Mistake:
    """A wrong label: its row in the predictions."""

    row: int
    truth: int
    guess: int
    score: float


@dataclass(frozen=True)
class Evaluation:
    """All of it.

    Attributes:
        images: whose truth is known.
        failed: of these, without a label: counted as wrong.
        k: classes that `top_k` holds, at most `TOP`.
        top_1, top_k: the truth is the best class, or one of the best k.
        classes: those that are the truth of any image, by index.
        confusions: the most frequent ones.
        taken_for: by class, what its images are wrongly labelled as most often; of the worst classes.
        calibration: None where scores are no probabilities.
        curve: what thresholds keep, by rising threshold; each another number of images.
        mistakes: the wrong labels with the highest scores.
    """

    images: int
    failed: int
    k: int
    top_1: Share
    top_k: Share
    classes: list[OfClass]
    confusions: list[Confusion]
    taken_for: dict[int, list[Confusion]]
    calibration: Calibration | None
    curve: list[Kept]
    mistakes: list[Mistake]

    @property
    def top_1_of_labelled(self) -> Share:
        """Accuracy without the failed images."""
        return Share(self.top_1.count, self.images - self.failed)

    @property
    def worst_classes(self) -> list[OfClass]:
        """Up to `WORST` classes with wrong labels, see `worst`."""
        return worst(self.classes)

    def thresholds(self) -> list[tuple[float, Kept | None]]:
        """For each of `TARGETS`, the threshold that keeps most images at that accuracy; None where none does."""
        found: list[tuple[float, Kept | None]] = []
        for target in TARGETS:
            good = [kept for kept in self.curve if kept.accuracy.value >= target]
            found.append((target, max(good, key=lambda kept: kept.images, default=None)))
        return found


def worst(classes: Sequence[OfClass]) -> list[OfClass]:
    """Those with the lowest accuracy that is sure, by the upper bound of its interval: one wrong image is no proof."""
    wrong = [of for of in classes if of.right < of.images]
    return sorted(wrong, key=lambda of: (of.recall.interval[1], of.index))[:WORST]


def evaluate(judged: Judged, top_k: int, mistakes: int) -> Evaluation:
    """Measure.

    Args:
        top_k: classes that the column `top_k` holds.
        mistakes: how many of the most confident ones to name.
    """
    k = min(top_k, TOP)
    [(images, labelled, right, in_top)] = _ask(
        judged, f"SELECT count(*), count(guess), {_SUM_RIGHT}, count(*) FILTER (place <= {k}) FROM judged"
    )
    classes = _classes(judged, k)
    low, high = _ask(judged, "SELECT min(score), max(score) FROM judged WHERE guess IS NOT NULL")[0]
    return Evaluation(
        images=images,
        failed=images - labelled,
        k=k,
        top_1=Share(right, images),
        top_k=Share(in_top, images),
        classes=classes,
        confusions=[
            Confusion(*row)
            for row in _ask(
                judged,
                "SELECT truth, guess, count(*) FROM judged WHERE guess <> truth GROUP BY ALL "
                f"ORDER BY count(*) DESC, truth, guess LIMIT {PAIRS}",
            )
        ],
        taken_for=_taken_for(judged, worst(classes)),
        calibration=_calibration(judged) if labelled and low >= 0 and high <= 1 else None,
        curve=_curve(judged, images, low, high) if labelled else [],
        mistakes=[
            Mistake(*row)
            for row in _ask(
                judged,
                "SELECT row, truth, guess, score FROM judged WHERE guess <> truth "
                f"ORDER BY score DESC, row LIMIT {mistakes}",
            )
        ],
    )


_SUM_RIGHT = "count(*) FILTER (guess = truth)"


def _ask(judged: Judged, sql: str) -> Sequence[tuple[Any, ...]]:
    return judged.connection.execute(sql).fetchall()


def _classes(judged: Judged, k: int) -> list[OfClass]:
    found = _ask(
        judged,
        f"WITH guesses AS (SELECT guess, count(*) AS guessed FROM judged GROUP BY guess), "
        f"truths AS (SELECT truth, count(*) AS images, count(*) - count(guess) AS failed, {_SUM_RIGHT} AS right_ones, "
        f"count(*) FILTER (place <= {k}) AS in_top FROM judged GROUP BY truth) "
        "SELECT truth, images, failed, right_ones, in_top, coalesce(guessed, 0) "
        "FROM truths LEFT JOIN guesses ON guess = truth ORDER BY truth",
    )
    return [OfClass(*row) for row in found]


def _taken_for(judged: Judged, classes: Sequence[OfClass]) -> dict[int, list[Confusion]]:
    indices = ", ".join(str(of.index) for of in classes) or "NULL"
    found = _ask(
        judged,
        f"SELECT truth, guess, count(*) FROM judged WHERE guess <> truth AND truth IN ({indices}) "
        "GROUP BY truth, guess "
        f"QUALIFY row_number() OVER (PARTITION BY truth ORDER BY count(*) DESC, guess) <= {GUESSES} "
        "ORDER BY truth, count(*) DESC, guess",
    )
    taken: dict[int, list[Confusion]] = {}
    for row in found:
        taken.setdefault(row[0], []).append(Confusion(*row))
    return taken


def _calibration(judged: Judged) -> Calibration:
    found = _ask(
        judged,
        f"SELECT least(floor(score * {CALIBRATION_BINS}), {CALIBRATION_BINS - 1})::INTEGER AS bin, count(*), "
        f"avg(score), {_SUM_RIGHT} FROM judged WHERE guess IS NOT NULL GROUP BY bin ORDER BY bin",
    )
    bins = [ScoreBin(row[0] / CALIBRATION_BINS, (row[0] + 1) / CALIBRATION_BINS, *row[1:]) for row in found]
    images = sum(bin.images for bin in bins)
    return Calibration(bins, sum(abs(bin.right - bin.confidence * bin.images) for bin in bins) / images)


def _curve(judged: Judged, images: int, low: float, high: float) -> list[Kept]:
    steps = STEPS / ((high - low) or 1.0)
    found = _ask(
        judged,
        f"SELECT least(floor((score - {low!r}) * {steps!r}), {STEPS - 1})::INTEGER AS step, min(score), count(*), "
        f"{_SUM_RIGHT} FROM judged WHERE guess IS NOT NULL GROUP BY step ORDER BY step DESC",
    )
    curve: list[Kept] = []
    kept = right = 0
    for _, lowest, more, more_right in found:
        kept, right = kept + more, right + more_right
        curve.append(Kept(lowest, kept, right, images))
    return curve[::-1]
