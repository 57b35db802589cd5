"""How batches are spread over processors."""

from __future__ import annotations

import pytest

from transforms.engines.division import Division, divide, shared


@pytest.mark.parametrize(
    ("batch_size", "processors", "division"),
    [
        (32, 1, Division(8, 1)),
        (32, 2, Division(8, 2)),
        (32, 4, Division(8, 4)),
        (32, 8, Division(4, 8)),
        (32, 16, Division(4, 16)),
        (32, 17, Division(32, 1)),  # two batches of eight pieces each are not enough
        (256, 64, Division(4, 64)),
        (42, 2, Division(7, 2)),  # six equal pieces, not five of 8 and one of 2
        (1, 2, Division(1, 2)),
        (1, 4, Division(1, 1)),
    ],
)
def test_a_batch_is_divided(batch_size: int, processors: int, division: Division) -> None:
    assert divide(batch_size, processors, least=4, most=8) == division


def test_an_engine_may_be_fast_with_less() -> None:
    assert divide(32, 2, least=1, most=4) == Division(4, 2)
    assert divide(32, 32, least=1, most=4) == Division(1, 32)
    assert divide(32, 65, least=1, most=4) == Division(32, 1)


@pytest.mark.parametrize(
    ("batch_size", "processors", "piece"), [(32, 1, 16), (32, 2, 16), (42, 2, 14), (10, 2, 10), (256, 64, 256)]
)
def test_processors_share_a_call(batch_size: int, processors: int, piece: int) -> None:
    assert shared(batch_size, processors) == Division(piece, 1)
