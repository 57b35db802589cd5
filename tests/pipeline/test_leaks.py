"""What the leak benchmark takes for a leak; `.ci/run` runs it over 2,000 images."""

from __future__ import annotations

import pytest

from benchmarks.leaks import Look, findings

MEBIBYTE = 1 << 20


def looks_of(threads: float = 0, files: float = 0, bytes: float = 0) -> list[Look]:
    """A run of 10,000 images that gains so many of each for every 1,000 images."""
    looks = []
    for images in range(100, 10_001, 100):
        gained = (int(each * images / 1_000) for each in (threads, files, bytes))
        looks.append(Look(images, 40 + next(gained), 9 + next(gained), 600 * MEBIBYTE + next(gained)))
    return looks


def leaking(looks: list[Look]) -> list[str]:
    return [finding.name for finding in findings(looks, 10_000, 2_000) if finding.leaks]


def test_a_steady_run_does_not_leak() -> None:
    assert leaking(looks_of()) == []
    assert leaking(looks_of(bytes=3 * MEBIBYTE)) == []


@pytest.mark.parametrize(
    ("looks", "names"),
    [
        (looks_of(threads=0.2), ["threads"]),
        (looks_of(files=1), ["open files"]),
        (looks_of(bytes=6 * MEBIBYTE), ["memory, MiB"]),
        (looks_of(threads=1, files=2, bytes=9 * MEBIBYTE), ["threads", "open files", "memory, MiB"]),
    ],
)
def test_what_grows_is_told(looks: list[Look], names: list[str]) -> None:
    assert leaking(looks) == names


def test_what_the_start_takes_does_not_count() -> None:
    start = [Look(images, 10, 3, 100 * MEBIBYTE) for images in range(0, 2_000, 100)]
    assert leaking([*start, *(look for look in looks_of() if look.images >= 2_000)]) == []


def test_a_run_too_short_to_tell_is_an_error() -> None:
    with pytest.raises(ValueError, match="only 3 looks at a run of 10000 images: take more images"):
        findings(looks_of()[:3], 10_000, 2_000)
