from __future__ import annotations

import pytest

from pipeline.report_rate import Rate, rate_over_time
from transforms.parts import PartFooter


def part(finished: float, rows: int = 10, generation: int = 0) -> PartFooter:
    return PartFooter("plan", 0, 0, generation, rows, 0, "run", {}, finished)


def steady(start: float, count: int, every: float = 5.0) -> list[PartFooter]:
    return [part(start + number * every) for number in range(count)]


def test_too_few_parts_tell_nothing() -> None:
    assert rate_over_time([]) is None
    assert rate_over_time(steady(1000, 7)) is None
    assert rate_over_time([part(1000.0)] * 9) is None  # all at one moment
    assert rate_over_time([part(0.0)] * 9) is None  # parts without a time


def test_images_a_second_from_the_first_commit_on() -> None:
    # Nine parts, 5 s apart: eight of them in 40 s, in two bins.
    assert rate_over_time(steady(1000, 9)) == Rate([(0, 20, 2.0, 1000.0), (20, 40, 2.0, 1020.0)], [])


def test_a_stall_is_seen() -> None:
    parts = [*steady(1000, 9), *steady(1000 + 40 + 300, 8)]
    found = rate_over_time(parts)
    assert found is not None
    assert found.pauses == []
    assert [round(images, 2) for _, _, images, _ in found.points] == [0.85, 0.0, 0.0, 0.85]
    assert [when for *_, when in found.points] == [1000.0, 1093.75, 1187.5, 1281.25]


def test_a_pause_is_left_out_and_told() -> None:
    parts = [*steady(1000, 9), *steady(1000 + 40 + 7200, 9)]
    found = rate_over_time(parts)
    assert found is not None
    assert found.pauses == [(40.0, 7200.0)]
    assert [(start, end) for start, end, *_ in found.points] == [(0, 20), (20, 40), (40, 60), (60, 80)]
    assert [images for _, _, images, _ in found.points] == [2.0] * 4
    assert [when for *_, when in found.points] == [1000.0, 1020.0, 1000 + 40 + 7200, 1000 + 60 + 7200]


def test_slow_shards_are_no_pauses() -> None:
    found = rate_over_time(steady(1000, 9, every=900.0))
    assert found is not None
    assert found.pauses == []


def test_parts_of_a_retry_do_not_count() -> None:
    parts = steady(1000, 9)
    assert rate_over_time([*parts, part(5000.0, 1000, generation=1)]) == rate_over_time(parts)


def test_bins_are_bounded() -> None:
    found = rate_over_time(steady(1000, 5000))
    assert found is not None
    assert len(found.points) == 60
    assert sum(images * (end - start) for start, end, images, _ in found.points) == pytest.approx(49_990)
