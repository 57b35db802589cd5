"""How long a trial goes on, what it reads again and what not, and the rate it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.check.trial import _feed, _rate, _Stop, try_sample
from pipeline.config import load_config
from pipeline.loading import columns_and_labels, model_spec
from transforms.errors import ImageError
from transforms.model import load_classifier
from transforms.records import Row


class Clock:
    """Seconds that pass by one at each look."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def rows_of(*uris: str) -> list[Row]:
    return [Row(position, position, uri) for position, uri in enumerate(uris)]


def positions(feed: Iterator[Row]) -> list[tuple[int, str]]:
    return [(row.position, row.uri) for row in feed]


def test_local_images_are_given_again_until_the_rate_is_steady() -> None:
    stop = _Stop(first=100.0, again=4.0)
    assert positions(_feed(rows_of("/a", "/b"), stop, 9.0, Clock())) == [(0, "/a"), (1, "/b"), (2, "/a"), (3, "/b")]


def test_images_of_others_are_read_once() -> None:
    fed = _feed(rows_of("/a", "https://h/b.jpg"), _Stop(first=100.0, again=50.0), 9.0, Clock())
    assert positions(fed) == [(0, "/a"), (1, "https://h/b.jpg")]


def test_no_image_is_begun_when_time_is_up() -> None:
    assert positions(_feed(rows_of("/a", "/b", "/c"), _Stop(first=1.5), 9.0, Clock())) == [(0, "/a"), (1, "/b")]


def test_without_any_good_image_it_ends_as_well() -> None:
    fed = positions(_feed(rows_of("/a"), _Stop(first=100.0), 5.0, Clock()))
    assert 2 <= len(fed) <= 7  # `stop.again` is never set


def test_lines_that_name_no_image_are_not_tried_again() -> None:
    rows = rows_of("/a", "/list.csv#line=3")
    rows[1].fail(ImageError("read", "bad_line", "it has 1 field"))
    fed = positions(_feed(rows, _Stop(first=100.0, again=5.0), 9.0, Clock()))
    assert [uri for position, uri in fed if position >= 2] == ["/a"] * (len(fed) - 2) != []


def test_the_rate_is_that_after_the_first_batch() -> None:
    assert _rate([(10.0, 32), (11.0, 64), (13.0, 128)]) == 32.0
    assert _rate([(10.0, 32), (11.0, 64)]) is None
    assert _rate([]) is None


@pytest.mark.parametrize("batch", [5, 96, 200])
def test_each_image_of_the_sample_has_one_row_whatever_is_repeated(config: Path, truth: Path, batch: int) -> None:
    settings = load_config(config, [f"batch.size={batch}"])
    rows = rows_of(*(f"{truth.parent}/{number:03d}.png" for number in range(96)), "/nowhere.png")
    columns, _ = columns_and_labels(settings, settings.model.handle)
    classifier = load_classifier(model_spec(settings, settings.model.handle))
    found = try_sample(rows, settings, classifier, columns, steady=0.2)
    assert sorted(row.position for row in found.rows) == list(range(97))
    best = {row.position: int(row.classes[0]) for row in found.rows if row.classes is not None}
    assert best == {number: number % 24 for number in range(96)}
    assert [row.error_type for row in found.rows if row.position == 96] == ["not_found"]
    assert found.outputs["logits"].shape[1] == 24
    assert 1 <= len(found.outputs["logits"]) <= 96
