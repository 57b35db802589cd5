"""`pipeline.cli` with decoders that die of marked images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import tensorflow  # noqa: F401

from pipeline import cli
from pipeline.check import measure, trial
from tests.crashing import SEGFAULT, deadly_open_picture, die
from transforms import isolation
from transforms.isolation import IsolatedWork, label_isolated
from transforms.records import Row

decode_image = measure.decode_image


def deadly_decode_image(data: bytes, *arguments: Any) -> Any:
    """As `decode_image`, but for files that end in a mark."""
    if data.endswith(SEGFAULT):
        die()
    return decode_image(data, *arguments)


def deadly_label_isolated(rows: Iterable[Row], work: IsolatedWork, timeout: float) -> Iterator[Row]:
    """As `label_isolated`, with such a decoder."""
    return label_isolated(rows, replace(work, decode=deadly_open_picture), timeout)


trial.open_picture = deadly_open_picture  # type: ignore[attr-defined]
measure.decode_image = deadly_decode_image  # type: ignore[attr-defined]
isolation.label_isolated = deadly_label_isolated

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
