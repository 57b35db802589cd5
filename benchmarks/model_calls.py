"""The quickstart's model on batches of 32 images: whole or in pieces, with all processors on a call or one on each.

The command:

    python -m benchmarks.model_calls [--rounds 30] [--write]

Each division is a process of its own, since TensorFlow has its threads for life; they are called in turn.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.commands import MODEL, QUICKSTART
from benchmarks.engines import Call, Form, Loop
from benchmarks.tables import replace_table, table
from transforms.engines.division import Division
from transforms.pools import processors

BATCH, SHAPE = 32, (224, 224, 3)
WHOLE = Division(BATCH, 1)


def divisions() -> list[Division]:
    """What is compared, the whole batch first."""
    return [WHOLE, *(Division(16, calls) for calls in (1, processors())), *(Division(n, processors()) for n in (8, 4))]


def measure(rounds: int, scratch: Path) -> dict[Division, list[Call]]:
    """What one batch took by division, one of each a round, who goes first changing."""
    images = scratch / "images.npy"
    np.save(images, np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32))
    form = Form("EfficientNet-Lite0", MODEL, QUICKSTART)
    with ExitStack() as stack:
        way = ("tensorflow", "float32")
        loops = {division: stack.enter_context(Loop(form, way, images, division)) for division in divisions()}
        found: dict[Division, list[Call]] = {division: [] for division in loops}
        order = list(loops)
        for number in range(rounds):
            turn = number % len(order)
            for division in order[turn:] + order[:turn]:
                found[division].append(loops[division].call())
    return found


def calls_table(found: dict[Division, list[Call]]) -> str:
    """Medians as Markdown, and the median of the rounds' ratios to the whole batch."""
    rows = []
    for division, calls in found.items():
        pairs = list(zip(calls, found[WHOLE], strict=True))
        speed = median(whole.seconds / call.seconds for call, whole in pairs)
        cpu = median(call.cpu_seconds / whole.cpu_seconds for call, whole in pairs)
        rate = BATCH / median(call.seconds for call in calls)
        rows.append([_named(division), f"{rate:.0f}", f"{speed:.2f}", f"{cpu:.2f}"])
    return table(["images a call", "images/s", "speed, 32 a call = 1", "processor time, 32 a call = 1"], rows)


def _named(division: Division) -> str:
    threads = "all processors" if division.calls == 1 else f"{division.calls} calls at a time, a processor each"
    return f"{division.piece}, {threads}"


def report(rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as scratch:
        text = calls_table(measure(rounds, Path(scratch)))
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
