"""The quickstart's model on batches of 32 images, handed to TensorFlow whole or in pieces.

The command:

    python -m benchmarks.model_calls [--rounds 30] [--write]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks.commands import MODEL
from benchmarks.tables import replace_table, table
from transforms import model as model_module
from transforms.buffers import BATCHES
from transforms.model import Classifier, ModelSpec

BATCH, SHAPE = 32, (224, 224, 3)
PIECES = (32, 16, 8, 4)


def classifier(piece: int) -> Classifier:
    """The model, called with `piece` images at a time."""
    chosen = model_module._piece
    model_module._piece = lambda batch_size: piece  # type: ignore[assignment]  # noqa: ARG005
    try:
        outputs = (("logits", "output"),)
        return Classifier(ModelSpec(str(MODEL), "serving_default", None, outputs, SHAPE, "float32", BATCH))
    finally:
        model_module._piece = chosen


def measure(rounds: int) -> dict[int, list[tuple[float, float]]]:
    """(seconds, processor seconds) of one batch by piece, one of each a round."""
    images = BATCHES.empty((BATCH, *SHAPE), "float32")
    images[:] = np.random.default_rng(0).normal(size=images.shape)
    models = {piece: classifier(piece) for piece in PIECES}
    found: dict[int, list[tuple[float, float]]] = {piece: [] for piece in PIECES}
    for model in models.values():
        model(images)
    for number in range(rounds):
        turn = number % len(PIECES)
        for piece in PIECES[turn:] + PIECES[:turn]:
            found[piece].append(_timed(lambda model=models[piece]: model(images)))  # type: ignore[misc]
    return found


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - cpu


def calls_table(found: dict[int, list[tuple[float, float]]]) -> str:
    """Medians as Markdown, and the median of the rounds' ratios to the whole batch."""
    rows = []
    for piece, times in found.items():
        seconds = [wall / whole for (wall, _), (whole, _) in zip(times, found[BATCH], strict=True)]
        cpu = [busy / whole for (_, busy), (_, whole) in zip(times, found[BATCH], strict=True)]
        rate = BATCH / median(wall for wall, _ in times)
        rows.append([f"{piece} images a call", f"{rate:.0f}", f"{1 / median(seconds):.2f}", f"{median(cpu):.2f}"])
    return table(["", "images/s", "speed, 32 a call = 1", "processor time, 32 a call = 1"], rows)


def report(rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    text = calls_table(measure(rounds))
    print(f"\n{text}\n")
    if write:
        replace_table("model-calls", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
