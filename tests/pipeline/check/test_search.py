"""The search on measurements made up for it: what is believed, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.check.measure import Measured
from pipeline.check.search import Comparison, answers_alike, compare, comparisons, search
from pipeline.check.settings import GROUPS, Setting, changed_keys
from transforms.preprocessing import Preprocessing

PICTURES = 200
CONFIGURED = Setting(Preprocessing(), 0)


def measured(right: int, probability: float = 0.5, first: int = 0) -> Measured:
    """So many right answers, from the picture numbered `first` on."""
    ranks = np.full(PICTURES, 3)
    ranks[first : first + right] = 0
    noise = np.random.default_rng(right).normal(0, 0.01, PICTURES)
    return Measured(ranks, np.log(probability) + noise)


class MadeUp:
    """Stands in for a bench: measurements by a rule."""

    def __init__(self, rule: Callable[[Setting], Measured]) -> None:
        self._rule = rule
        self.asked: list[Setting] = []

    def __len__(self) -> int:
        return PICTURES

    def measure(self, setting: Setting) -> Measured:
        self.asked.append(setting)
        return self._rule(setting)

    def is_known(self, setting: Setting) -> bool:
        return setting in self.asked


def found(rule: Callable[[Setting], Measured], configured: Setting = CONFIGURED) -> dict[str, Any]:
    """The config keys that the search changes."""
    outcome = search(MadeUp(rule), configured)  # type: ignore[arg-type]
    assert set(outcome.changes) == {
        group for group in GROUPS if outcome.best.of_group(group) != configured.of_group(group)
    }  # fmt: skip
    return changed_keys(outcome.best, configured)


def test_nothing_better_changes_nothing() -> None:
    assert found(lambda setting: measured(180 if setting == CONFIGURED else 150)) == {}
    assert found(lambda setting: measured(180)) == {}


def test_what_could_be_chance_is_no_mistake() -> None:
    """Ten images of 200 more, all won and none lost, is p = 0.002; of some twenty settings one may well have that."""
    assert found(lambda setting: measured(180 if setting.image.transpose else 170)) == {}


def test_answers_and_scores_together_are_believed() -> None:
    def rule(setting: Setting) -> Measured:
        return measured(180, 0.6) if setting.image.transpose else measured(170, 0.5)

    assert found(rule) == {"image.transpose": True}


def test_answers_beyond_doubt_are_believed_without_the_scores() -> None:
    assert found(lambda setting: measured(190, 0.4) if setting.image.transpose else measured(150, 0.5)) == {
        "image.transpose": True
    }


def test_scores_without_answers_are_not_believed() -> None:
    assert found(lambda setting: measured(180, 0.9 if setting.image.transpose else 0.5)) == {}
    assert found(lambda setting: measured(182, 0.9) if setting.image.transpose else measured(180, 0.5)) == {}


def test_of_answers_alike_the_better_scores_win() -> None:
    def rule(setting: Setting) -> Measured:
        if setting.image.geometry == "pad":
            return measured(182, 0.6)
        return measured(180, 0.7) if setting.image.geometry == "crop_resize" else measured(120, 0.4)

    assert found(rule)["image.geometry"] == "crop_resize"


def test_of_answers_that_differ_the_better_answers_win() -> None:
    def rule(setting: Setting) -> Measured:
        if setting.image.geometry == "pad":
            return measured(190, 0.6)
        return measured(160, 0.7) if setting.image.geometry == "crop_resize" else measured(120, 0.4)

    assert found(rule) == {"image.geometry": "pad"}


def test_the_change_that_helps_most_is_made_first() -> None:
    """Other channels seem to help while pictures are stretched."""

    def rule(setting: Setting) -> Measured:
        if setting.image.geometry == "pad":
            return measured(190, 0.9) if setting.image.channels == "rgb" else measured(100, 0.3)
        return measured(100, 0.3) if setting.image.channels == "bgr" else measured(50, 0.2)

    assert found(rule) == {"image.geometry": "pad"}


def test_a_change_that_no_longer_matters_is_taken_back() -> None:
    """Other channels help most of all until the values and the geometry are right."""

    def rule(setting: Setting) -> Measured:
        image = setting.image
        values, channels, geometry = image.scale == 127.5, image.channels == "bgr", image.geometry == "pad"
        if values and geometry:
            return measured(190, 0.9)
        return measured(50 + 80 * channels + 40 * values, 0.2 + 0.2 * channels + 0.1 * values)

    changes = found(rule)
    assert "image.channels" not in changes
    assert (changes["image.scale"], changes["image.geometry"]) == (127.5, "pad")


def test_mistakes_that_hide_each_other_are_found_together() -> None:
    def rule(setting: Setting) -> Measured:
        image = setting.image
        right = image.transpose and image.channels == "bgr" and image.scale == 1.0 and setting.label_offset == 1
        return measured(180, 0.8) if right else measured(2, 0.01)

    changes = found(rule)
    assert changes["image.transpose"] is True
    assert changes["image.channels"] == "bgr"
    assert changes["image.scale"] == 1.0
    assert changes["model.label_offset"] == 1


def test_it_ends_where_each_setting_beats_another() -> None:
    """As settings of three groups could in a circle, if noise had its way."""
    chance = np.random.default_rng(0)
    known: dict[Setting, Measured] = {}

    def rule(setting: Setting) -> Measured:
        return known.setdefault(setting, measured(int(chance.integers(20, 180)), float(chance.uniform(0.1, 0.9))))

    assert isinstance(found(rule), dict)


def test_comparisons() -> None:
    comparison = compare(measured(150), measured(160, first=20))
    assert (comparison.lost, comparison.gained, comparison.difference) == (20, 30, 0.05)
    assert comparison.answers == pytest.approx(0.2026, abs=1e-4)
    assert comparison.interval[0] < 0.05 < comparison.interval[1]
    back = comparison.reverse
    assert (back.lost, back.gained, back.difference) == (30, 20, -0.05)
    assert back.interval == (-comparison.interval[1], -comparison.interval[0])
    assert answers_alike(measured(150), measured(153))
    assert not answers_alike(measured(150), measured(160))


def test_a_level_is_shared_by_all_that_is_tried() -> None:
    gain = Comparison(5, 20, (0.0, 0.1), answers=0.004, scores=0.004, gain=0.1, pictures=PICTURES)
    assert gain.is_better(10)
    assert not gain.is_better(20)
    assert not gain.reverse.is_better(1)
    assert comparisons(CONFIGURED) == 21
