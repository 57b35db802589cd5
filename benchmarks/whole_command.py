"""`hublabel run` against plain scripts, as whole commands in turn.

The command:

    python -m benchmarks.whole_command [--images 2000] [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.commands import (
    OPENVINO,
    agreement,
    int8_model,
    labels_below,
    nncf_installed,
    openvino_installed,
    run_hublabel,
    run_script,
)
from benchmarks.measured import Cost
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import ratio, replace_table, table
from benchmarks.targets import write_target
from transforms.engines.processor import has_bfloat16

TF_DATA, THREADS, OURS, OURS_OPENVINO = "tf.data script", "thread-pool script", "hublabel", "hublabel, OpenVINO"
OURS_BFLOAT16, OURS_INT8 = "hublabel, OpenVINO in bfloat16", "hublabel, OpenVINO in int8"
SCRIPTS = {TF_DATA: "tf_data_script.py", THREADS: "thread_pool_script.py"}
# The share of labels that must be hublabel's, at least: exact but for rounding, or decoded by TensorFlow's default DCT
# or Pillow, or in a precision that is chosen for speed.
SAME_LABELS = {OURS_OPENVINO: 0.998, TF_DATA: 0.95, THREADS: 0.98, OURS_BFLOAT16: 0.95, OURS_INT8: 0.92}

# Name, what it is of a cost, and whether more of it is better.
MEASURES: tuple[tuple[str, Callable[[Cost], float], bool], ...] = (
    ("whole command, s", lambda cost: cost.seconds, False),
    ("CPU of the whole command, s", lambda cost: cost.cpu_seconds, False),
    ("steady state, images/s", lambda cost: cost.rate, True),
    ("command to first batch, s", lambda cost: cost.first, False),
)

Side = TypeVar("Side")
Run = Callable[[Path, Path], Cost]
Costs = dict[str, list[Cost]]  # by side, one a round


def sides(photos: Path, scratch: Path) -> dict[str, Run]:
    """What is compared, by its name in the table; an 8-bit model is calibrated on `photos` now, once for all runs."""
    found: dict[str, Run] = {
        name: lambda images, scratch, script=script: run_script(script, images, scratch)  # type: ignore[misc]
        for name, script in SCRIPTS.items()
    }
    found[OURS] = run_hublabel
    if openvino_installed():
        found[OURS_OPENVINO] = lambda images, scratch: run_hublabel(images, scratch, OPENVINO, name=OURS_OPENVINO)
    if openvino_installed() and has_bfloat16():
        short = (OPENVINO, "model.precision=bfloat16")
        found[OURS_BFLOAT16] = lambda images, scratch: run_hublabel(images, scratch, *short, name=OURS_BFLOAT16)
    if openvino_installed() and nncf_installed():
        small = (OPENVINO, "model.precision=int8", f"model.handle={int8_model(photos, scratch)}")
        found[OURS_INT8] = lambda images, scratch: run_hublabel(images, scratch, *small, name=OURS_INT8)
    return found


def measure(runs: Mapping[str, Run], photos: Path, scratch: Path, rounds: int) -> Costs:
    """What each run over `photos` cost in each round; who begins changes from round to round."""
    costs: Costs = {name: [] for name in runs}
    for number in range(rounds):
        for name in in_turn(list(runs), number):
            cost = runs[name](photos, scratch)
            costs[name].append(cost)
            print(
                f"round {number + 1}, {name}: {cost.seconds:.1f} s ({cost.cpu_seconds:.1f} s of CPU, "
                f"first {cost.first:.1f} s, {cost.rate:.0f}/s)",
                flush=True,
            )
    return costs


def in_turn(sides: Sequence[Side], number: int) -> list[Side]:
    """The sides in the order of round `number`: each begins in turn."""
    turn = number % len(sides)
    return [*sides[turn:], *sides[:turn]]


def ratio_table(costs: Costs) -> str:
    """The comparison as Markdown: medians, and the medians of the rounds' ratios to each script; above 1 is better."""
    rows = []
    for name, value, more_is_better in MEASURES:
        values = {side: [value(cost) for cost in found] for side, found in costs.items()}
        rows.append([name, *(f"{median(found):.1f}" for found in values.values())])
        for script in SCRIPTS:
            cells = [
                "" if side in SCRIPTS else ratio(better(values[script], found, more_is_better))
                for side, found in values.items()
            ]
            rows.append([f"... better than the {script} by", *cells])
    return table(["", *costs], rows)


def better(theirs: Sequence[float], ours: Sequence[float], more_is_better: bool = False) -> list[tuple[float, float]]:
    """Pairs by round whose quotient is above 1 where ours is better."""
    return list(zip(ours, theirs, strict=True) if more_is_better else zip(theirs, ours, strict=True))


def report(images: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`.

    Raises:
        RuntimeError: they do not do the same work.
    """
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        photos = photo_folder(scratch / "photos", images)
        costs = measure(sides(photos, scratch), photos, scratch, rounds)
        same = _agreements(scratch, costs)
    said = "; ".join(f"{name} {share:.1%}" for name, share in same.items())
    text = (
        f"{images:,} photos ({photo_kind()}), {rounds} rounds, medians. The same label as hublabel's: {said} "
        f"of the photos.\n\n{ratio_table(costs)}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("whole-command", text)
        _write_targets(costs)


def _agreements(scratch: Path, costs: Costs) -> dict[str, float]:
    """The share of labels that are hublabel's, by side."""
    ours = labels_below(scratch / OURS)
    same = {name: agreement(ours, labels_below(scratch / SCRIPTS.get(name, name))) for name in costs if name != OURS}
    for name, share in same.items():
        if share < SAME_LABELS[name]:
            raise RuntimeError(f"{name} and hublabel agree on {share:.1%} of the labels only: one does other work")
    return same


def _write_targets(costs: Costs) -> None:
    script = costs[TF_DATA]
    targets = {
        "whole-tensorflow": OURS,
        "whole-openvino": OURS_OPENVINO,
        "whole-bfloat16": OURS_BFLOAT16,
        "whole-int8": OURS_INT8,
    }
    for name, side in targets.items():
        if side in costs:
            write_target(name, median(a.seconds / b.seconds for a, b in zip(script, costs[side], strict=True)))
    write_target("first-batch", median(b.first / a.first for a, b in zip(script, costs[OURS], strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
