"""Confidence intervals and tests on proportions: what so many images can show, and what they cannot."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

Z95 = 1.959963984540054  # the standard normal distribution's 97.5 % quantile: two-sided 95 %
SIGNS = 8_000_000  # held at one time, 4 bytes each


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a proportion.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike the textbook
    interval it holds near 0 and 1 and for few trials.

    Args:
        successes: 0 .. trials.
        trials: at least 1.
        z: quantile of the standard normal distribution; 95 % unless given.

    Returns:
        Lower and upper bound, 0 .. 1.
    """
    share, squared = successes / trials, z * z / trials
    middle = (share + squared / 2) / (1 + squared)
    half = z / (1 + squared) * math.sqrt(share * (1 - share) / trials + squared / (4 * trials))
    # At either end a bound is the end itself, but for the last digits.
    return middle - half if successes else 0.0, middle + half if successes < trials else 1.0


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p-value of paired answers, right under one setting and wrong under the other.

    The exact binomial form of McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 12 (1947).

    Args:
        lost, gained: images that only the first setting, and only the second gets right.
    """
    differ = lost + gained
    tail = sum(math.comb(differ, i) for i in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / 2**differ)


def sign_flips(differences: np.ndarray, flips: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of paired differences having a mean of zero, by random flips of their signs.

    Fisher, "The Design of Experiments" (1935), section 21, with a random sample of the flips. The signs as they are
    count as one more, so that p is never 0 (Phipson and Smyth, "Permutation p-values should never be zero", 2010).

    Args:
        differences: float [N].
        flips: random ones.
        seed: of the flips.
    """
    observed = abs(float(differences.sum())) * (1 - 1e-6)  # sums in another order differ in the last digits
    as_large, piece = 1, max(1, SIGNS // max(1, len(differences)))
    for start in range(0, flips, piece):
        signs = _signs(min(piece, flips - start), len(differences), seed + start)
        as_large += int((np.abs(signs @ differences.astype(np.float32)) >= observed).sum())
    return as_large / (flips + 1)


@lru_cache(maxsize=1)
def _signs(flips: int, count: int, seed: int) -> np.ndarray:
    """float32 [flips, count] of -1 and 1; the same ones are asked for time and again."""
    return np.random.default_rng(seed).integers(0, 2, (flips, count), dtype=np.int8).astype(np.float32) * 2 - 1


def paired_difference(lost: int, gained: int, trials: int, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of (gained - lost) / trials, by the paired bootstrap's percentiles.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: images are drawn with replacement, each
    with both of its answers. Where all answers are the same there is nothing to draw: then the bounds are those of a
    proportion of which nothing was seen (Clopper and Pearson, 1934), to either side.

    Args:
        lost, gained: images that only the first setting, and only the second gets right.
        trials: images.
    """
    if not lost + gained:
        bound = 1 - 0.025 ** (1 / trials)
        return -bound, bound
    shares = np.array([lost, gained, trials - lost - gained]) / trials
    drawn = np.random.default_rng(seed).multinomial(trials, shares, draws)
    low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / trials, [2.5, 97.5])
    return float(low), float(high)
