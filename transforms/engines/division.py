"""How a batch is spread over the processors."""

from __future__ import annotations

from dataclasses import dataclass

BATCHES = 2  # under way at a time; see `model.Classifier`
SHARED, SHARED_LEAST = 8, 16  # images a processor, and at least, of a piece that all of them compute


@dataclass(frozen=True)
class Division:
    """How a batch is spread.

    Attributes:
        piece: images in one call of the model.
        calls: made at a time. Several have one processor each; one alone has all of them.
    """

    piece: int
    calls: int


def divide(batch_size: int, processors: int, least: int, most: int) -> Division:
    """A processor to each call, where two batches give so many calls; otherwise all processors to one after the other.

    Processors that compute a layer together wait for each other behind every layer, and longest when one of them is
    also decoding; alone none waits. Small pieces keep what passes between the layers in a processor's cache, but each
    call reads all weights and takes some Python (`python -m benchmarks.model_calls`).

    Args:
        least, most: images that the engine is fast with on one processor.
    """
    piece = _equal(batch_size, min(most, max(least, batch_size // processors)))
    if BATCHES * -(-batch_size // piece) >= processors:
        return Division(piece, processors)
    return shared(batch_size, processors)


def shared(batch_size: int, processors: int) -> Division:
    """All processors to one call after the other.

    In pieces of a few images a processor, so that what passes between the layers stays in their caches and little
    memory is needed; with fewer the processors wait for each other after every layer.
    """
    return Division(_equal(batch_size, max(SHARED_LEAST, SHARED * processors)), 1)


def _equal(batch_size: int, most: int) -> int:
    """The size of equal pieces of at most so many images."""
    return -(-batch_size // -(-batch_size // most))
