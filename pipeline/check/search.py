"""Which setting is right: a search from the configured one, group by group, that believes only what can be shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.check.measure import Bench, Measured
from pipeline.check.settings import (
    CHANNELS,
    GROUPS,
    LABEL_OFFSET,
    TRANSPOSE,
    VALUES,
    Alternative,
    Setting,
    alternatives,
)
from pipeline.intervals import mcnemar, paired_difference, sign_flips

LEVEL = 0.05  # chance of any mistake found where there is none, over all settings tried
CLEAR = 0.001  # the same, for answers alone to be enough
SWEEPS = 4  # over all groups; the last one finds nothing
HOPELESS = 0.2  # top-1 below which several mistakes may hide each other


@dataclass(frozen=True)
class Comparison:
    """One setting against another on the same pictures.

    Attributes:
        lost, gained: pictures that only the first, and only the second gets right.
        interval: 95 %, of `difference`.
        answers: p-value, exact McNemar test of the best classes.
        scores: p-value, sign-flip test of the true class's log-probability.
        gain: mean of that log-probability's differences.
        pictures: N.
    """

    lost: int
    gained: int
    interval: tuple[float, float]
    answers: float
    scores: float
    gain: float
    pictures: int

    @property
    def difference(self) -> float:
        """Of top-1, second less first."""
        return (self.gained - self.lost) / self.pictures

    def is_better(self, comparisons: int) -> bool:
        """Whether the second setting is shown to be better, as one of so many `comparisons` (Bonferroni).

        The answers must differ, in its favour, by themselves (p < 0.05). That alone would find something among twenty
        settings; so the scores, which tell much more of each picture than right or wrong, must say the same at a level
        that allows for all the comparisons. Or the answers are beyond doubt.
        """
        if self.gained <= self.lost or self.answers >= LEVEL:
            return False
        by_scores = self.gain > 0 and self.scores * comparisons < LEVEL
        return by_scores or self.answers * comparisons < CLEAR

    @property
    def reverse(self) -> Comparison:
        low, high = self.interval
        return Comparison(
            self.gained, self.lost, (-high, -low), self.answers, self.scores, -self.gain, self.pictures
        )  # fmt: skip


def answers_alike(first: Measured, second: Measured) -> bool:
    """Whether the best classes show no difference (exact McNemar test)."""
    lost, gained = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    return mcnemar(lost, gained) >= LEVEL


def compare(first: Measured, second: Measured) -> Comparison:
    """What `second` gains over `first`."""
    lost, gained = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    differences = second.log_probabilities - first.log_probabilities
    pictures = len(first.ranks)
    return Comparison(
        lost,
        gained,
        paired_difference(lost, gained, pictures),
        mcnemar(lost, gained),
        sign_flips(differences),
        float(differences.mean()),
        pictures,
    )


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        configured, best: the setting begun with, and the best that is shown to be better; the same where none is.
        tried: every setting that differs from the best in one group, and how it compares with the best.
        comparisons: so many are allowed for.
        changes: by group, what the best loses when that group is as configured.
    """

    configured: Setting
    best: Setting
    tried: list[tuple[Alternative, Comparison]]
    comparisons: int
    changes: dict[str, Comparison] = field(default_factory=dict)


def search(bench: Bench, configured: Setting, progress: Callable[[str], None] = lambda name: None) -> Found:  # noqa: ARG005
    """Find what is wrong with `configured`.

    First the one change that helps most is made, of all groups: while the worst is still wrong, others may seem to help
    that do not. Then, group after group, the best of the alternatives that are shown to be better is taken over, until
    none is. Where that leads nowhere, all combinations of what destroys most are tried: one mistake can hide another.
    At last each change is taken back that is not shown to matter.

    Args:
        progress: called with the name of each setting before it is measured.
    """
    return _Search(bench, configured, progress).run()


def comparisons(configured: Setting) -> int:
    """How many alternatives a config has, of which one may look better by chance."""
    return sum(len(alternatives(group, configured, configured)) for group in GROUPS)


class _Search:
    def __init__(self, bench: Bench, configured: Setting, progress: Callable[[str], None]) -> None:
        self._bench, self._configured, self._progress = bench, configured, progress
        self._comparisons = comparisons(configured)

    def run(self) -> Found:
        self._measure(self._configured, "as configured")
        best = self._climb(self._best_of(self._around(self._configured), self._configured))
        share = self._measure(best, "").top1 / len(self._bench)
        if share < HOPELESS and (found := self._wide(best)) != best:
            best = self._climb(found)
        best = self._without_needless(best)
        tried = [(alternative, self._compare(best, alternative)) for alternative in self._around(best)]
        changes = {}
        for group in GROUPS:
            as_configured = best.with_values(self._configured.of_group(group))
            if as_configured != best:
                changes[group] = self._compare(best, Alternative(group, "", as_configured))
        return Found(self._configured, best, tried, self._comparisons, changes)

    def _measure(self, setting: Setting, name: str) -> Measured:
        if not self._bench.is_known(setting):
            self._progress(name)
        return self._bench.measure(setting)

    def _compare(self, first: Setting, second: Alternative) -> Comparison:
        return compare(self._measure(first, ""), self._measure(second.setting, second.name))

    def _around(self, setting: Setting) -> list[Alternative]:
        return [found for group in GROUPS for found in alternatives(group, setting, self._configured)]

    def _climb(self, current: Setting) -> Setting:
        for _ in range(SWEEPS):
            before = current
            for group in GROUPS:
                current = self._best_of(alternatives(group, current, self._configured), current)
            if current == before:
                break
        return current

    def _best_of(self, options: list[Alternative], current: Setting) -> Setting:
        """The best of the options that are shown to be better; else `current`.

        That is the one with the most right answers; of those that do not answer differently from it (McNemar) the one
        that gives the true classes the highest probabilities, which tell more.
        """
        better = [option for option in options if self._compare(current, option).is_better(self._comparisons)]
        if not better:
            return current
        measured = {option.setting: self._bench.measure(option.setting) for option in better}
        most = max(measured.values(), key=lambda found: found.top1)
        alike = [setting for setting, found in measured.items() if answers_alike(most, found)]
        return max(alike, key=lambda setting: float(measured[setting].log_probabilities.mean()))

    def _wide(self, current: Setting) -> Setting:
        """The best of all combinations of what destroys most: mistakes that hide each other."""
        options: list[Alternative] = []
        for groups in itertools.product(*(self._values(group, current) for group in (VALUES, TRANSPOSE, CHANNELS))):
            setting = current
            for values in groups:
                setting = setting.with_values(values)
            options += [
                Alternative(LABEL_OFFSET, "combinations", found)
                for found in [setting, *(a.setting for a in alternatives(LABEL_OFFSET, setting, self._configured))]
                if found != current
            ]
        return self._best_of(options, current)

    def _values(self, group: str, current: Setting) -> list[dict[str, object]]:
        found = alternatives(group, current, self._configured)
        return [current.of_group(group), *(option.setting.of_group(group) for option in found)]

    def _without_needless(self, best: Setting) -> Setting:
        """Without the changes that do not matter once the others are made."""
        for group in reversed(GROUPS):
            as_configured = best.with_values(self._configured.of_group(group))
            if as_configured != best:
                loss = self._compare(best, Alternative(group, "", as_configured))
                if not loss.reverse.is_better(self._comparisons):
                    best = as_configured
        return best
