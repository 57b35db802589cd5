"""Intervals and tests against published and counted values."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.intervals import mcnemar, paired_difference, sign_flips, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [  # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson(successes: int, trials: int, interval: tuple[float, float]) -> None:
    assert wilson(successes, trials) == pytest.approx(interval, abs=5e-5)
    low, high = wilson(trials - successes, trials)
    assert (1 - high, 1 - low) == pytest.approx(interval, abs=5e-5)


def test_wilson_ends_at_the_ends() -> None:
    assert wilson(0, 200)[0] == 0.0
    assert wilson(200, 200)[1] == 1.0


def test_mcnemar_counts_coin_flips() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == 2 / 32
    assert mcnemar(1, 8) == 2 * (1 + 9) / 512
    assert mcnemar(0, 2000) == 0.0  # too small for a float, and no error


def test_sign_flips() -> None:
    assert sign_flips(np.zeros(10)) == 1.0
    assert sign_flips(np.array([1.0, 1.0, 1.0])) == pytest.approx(2 / 8, abs=0.02)  # of eight flips two are as far out
    assert sign_flips(np.array([-2.0, 1.0, 1.0])) == 1.0
    assert sign_flips(np.ones(100)) == pytest.approx(1 / 10_001)
    differences = np.random.default_rng(3).normal(0.5, 1, 50)
    assert sign_flips(differences) == sign_flips(-differences)
    assert sign_flips(differences) < 0.01


def test_sign_flips_are_taken_in_pieces() -> None:
    many = np.zeros(50_000)
    many[0] = 1.0
    assert sign_flips(many, flips=200) == 1.0


def test_sign_flips_are_right_as_often_as_they_say() -> None:
    chance = np.random.default_rng(5)
    found = [sign_flips(chance.normal(0, 1, 40), flips=400) for _ in range(400)]
    assert sum(p < 0.05 for p in found) / 400 == pytest.approx(0.05, abs=0.025)


def test_paired_difference() -> None:
    low, high = paired_difference(10, 30, 200)  # normal approximation: 0.1 +- 1.96 * sqrt(40 - 2) / 200
    assert (low, high) == (pytest.approx(0.04, abs=0.01), pytest.approx(0.16, abs=0.01))
    assert paired_difference(30, 10, 200)[1] == pytest.approx(-low, abs=0.01)
    assert paired_difference(0, 0, 200) == (pytest.approx(-0.0183, abs=1e-4), pytest.approx(0.0183, abs=1e-4))
