"""Which pixels go where, in numbers."""

from __future__ import annotations

import pytest

from transforms.geometry import Plan, plan, reduction
from transforms.preprocessing import Preprocessing


def spec(geometry: str, size: tuple[int, int] = (224, 224), fraction: float = 1.0) -> Preprocessing:
    return Preprocessing(height=size[0], width=size[1], geometry=geometry, fraction=fraction)


def test_stretch_takes_everything() -> None:
    assert plan(375, 500, spec("stretch", (100, 50))) == Plan((0, 0, 375, 500), (100, 50), (0, 0, 100, 50))


@pytest.mark.parametrize(
    ("height", "width", "fraction", "scaled", "corner"),
    [
        # floor(224 / 0.96) = 233 is the short side, int(233 * 500 / 375) = 310 the long one
        (375, 500, 0.96, (233, 310), (4, 43)),
        (500, 375, 0.96, (310, 233), (43, 4)),
        # int(256 * 333 / 250) = int(340.99...) = 340
        (333, 250, 0.875, (340, 256), (58, 16)),
        (224, 224, 1.0, (224, 224), (0, 0)),
        (1, 1, 0.875, (256, 256), (16, 16)),
        (1, 100, 1.0, (224, 22400), (0, 11088)),
    ],
)
def test_resize_crop_rounds_as_timm_does(
    height: int, width: int, fraction: float, scaled: tuple[int, int], corner: tuple[int, int]
) -> None:
    found = plan(height, width, spec("resize_crop", fraction=fraction))
    assert found == Plan((0, 0, height, width), scaled, (*corner, 224, 224))


def test_resize_crop_keeps_the_ratio_for_inputs_that_are_not_square() -> None:
    # ratio = min(375 / 200, 500 / 400) = 1.25
    found = plan(375, 500, spec("resize_crop", (100, 200), 0.5))
    assert found == Plan((0, 0, 375, 500), (300, 400), (100, 100, 100, 200))


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [
        # int(0.875 * 375) = 328, (375 - 328 + 1) // 2 = 24
        (375, 500, (24, 86, 328, 328)),
        (500, 375, (86, 24, 328, 328)),
        (256, 256, (16, 16, 224, 224)),
        (1, 1, (0, 0, 1, 1)),
        (1, 9, (0, 4, 1, 1)),
    ],
)
def test_crop_resize_cuts_as_efficientnet_does(height: int, width: int, crop: tuple[int, int, int, int]) -> None:
    found = plan(height, width, spec("crop_resize", fraction=0.875))
    assert found == Plan(crop, (224, 224), (0, 0, 224, 224))


def test_crop_resize_keeps_proportions_for_inputs_that_are_not_square() -> None:
    found = plan(400, 400, spec("crop_resize", (100, 200), 0.5))
    assert found == Plan((150, 100, 100, 200), (100, 200), (0, 0, 100, 200))


@pytest.mark.parametrize(
    ("height", "width", "scaled", "place"),
    [
        (375, 500, (168, 224), (28, 0)),
        (500, 375, (224, 168), (0, 28)),
        (10, 10, (224, 224), (0, 0)),
        (1, 1000, (1, 224), (111, 0)),
    ],
)
def test_pad_centres_the_longer_side(height: int, width: int, scaled: tuple[int, int], place: tuple[int, int]) -> None:
    assert plan(height, width, spec("pad")) == Plan((0, 0, height, width), scaled, (0, 0, *scaled), place)


@pytest.mark.parametrize(
    ("height", "width", "changes", "expected"),
    [
        # 3000 / 250 = 12 and a quarter of it, 3, is left to the filter; an eighth would leave 1.5
        (3000, 4000, {"geometry": "resize_crop", "fraction": 0.896}, 4),
        (4032, 4032, {"geometry": "stretch"}, 8),
        (3024, 4032, {"geometry": "stretch", "height": 100, "width": 100}, 8),
        (896, 1792, {"geometry": "stretch"}, 2),
        (896, 894, {"geometry": "stretch"}, 1),
        (895, 1792, {"geometry": "stretch"}, 1),
        (375, 500, {"geometry": "resize_crop"}, 1),
        (4096, 4096, {"geometry": "crop_resize", "fraction": 0.875}, 8),
        # 2,625 rows are cut out: half of that is no whole number
        (3000, 4000, {"geometry": "crop_resize", "fraction": 0.875}, 1),
        (4032, 4032, {"geometry": "stretch", "antialias": False}, 1),
    ],
)
def test_reduction_is_offered_where_nothing_moves(
    height: int, width: int, changes: dict[str, object], expected: int
) -> None:
    settings = Preprocessing(**{"antialias": True, **changes})  # type: ignore[arg-type]
    assert reduction(height, width, settings) == expected
