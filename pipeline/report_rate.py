"""How fast a run went over its time, from when its parts were committed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from transforms.parts import PartFooter

MOST_BINS = 60
PARTS_A_BIN = 4  # fewer, and the rate is that of single parts
FEWEST_PARTS = 8
PAUSE = 600.0  # seconds without a part that are a pause, if they are also ...
PAUSE_MEDIANS = 20  # ... so many times the usual


@dataclass(frozen=True)
class Rate:
    """Images a second over the time that was worked.

    Attributes:
        points: start and end in seconds of work, images a second between them, Unix time of the start.
        pauses: seconds of work at which nothing was committed for long, and for how many seconds.
    """

    points: list[tuple[float, float, float, float]]
    pauses: list[tuple[float, float]]


def rate_over_time(footers: Iterable[PartFooter]) -> Rate | None:
    """The rate from the first part's commit on; None for too few parts.

    Parts of a retry do not count: they carry over rows that were labelled before. Nor do the rows of the first part, or
    of the first after a pause: when work on them began is not known.
    """
    commits = sorted((footer.finished, footer.rows) for footer in footers if not footer.generation and footer.finished)
    gaps = [late - early for (early, _), (late, _) in pairwise(commits)]
    if len(commits) < FEWEST_PARTS or not sum(gaps):
        return None
    pause = max(PAUSE, PAUSE_MEDIANS * statistics.median(gaps))
    worked, pauses, placed = 0.0, [], []
    for gap, (finished, rows) in zip(gaps, commits[1:], strict=True):
        if gap >= pause:
            pauses.append((worked, gap))
            continue
        worked += gap
        placed.append((worked, finished, rows))
    return Rate(_binned(placed, worked, commits[0][0]), pauses) if worked else None


def _binned(
    placed: list[tuple[float, float, int]], worked: float, begun: float
) -> list[tuple[float, float, float, float]]:
    """Rates in bins of equal width; a bin without a part has the rate 0."""
    count = max(1, min(MOST_BINS, len(placed) // PARTS_A_BIN))
    width = worked / count
    images, since = [0] * count, [0.0] * count
    for at, finished, rows in placed:
        number = min(max(math.ceil(at / width) - 1, 0), count - 1)  # a part ends what it is the result of
        images[number] += rows
        since[number] = since[number] or finished - (at - number * width)
    points: list[tuple[float, float, float, float]] = []
    for number in range(count):
        when = since[number] or (points[-1][3] + width if points else begun)
        points.append((number * width, (number + 1) * width, images[number] / width, when))
    return points


def local_time(when: float) -> str:
    """Unix time as `2026-11-22 13:45:10`, in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
