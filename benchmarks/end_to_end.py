"""ConvMixer-1024/20 through `hublabel run`, against the bare model on ready tensors, in turn.

The command:

    python -m benchmarks.end_to_end [--images 640] [--rounds 3] [--write]

The model is exported with random weights in the range of trained ones: what they are worth does not change the time.
A run's rate is that from its first committed shard, one batch, to its last; it reads, decodes and writes meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.commands import OPENVINO, commits, openvino_installed, run_hublabel
from benchmarks.measured import ROOT, Progress
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import ratio, replace_table, table
from benchmarks.targets import write_target
from benchmarks.whole_command import OURS, OURS_OPENVINO, in_turn

VARIANT, CONFIG, BATCH = "1024-20", "configs/convmixer_1024_20.yaml", 32
BARE = "bare loop, TensorFlow"

Rates = dict[str, list[float]]  # images a second by side, one a round


def export(folder: Path) -> Path:
    """The SavedModel, with random weights."""
    from benchmarks.convmixer_export import random_arrays
    from pipeline.models.convmixer import IMAGE_SIZE, VARIANTS, fold_weights, forward
    from pipeline.models.saved_model import save_classifier

    arch = VARIANTS[VARIANT]
    weights = fold_weights(random_arrays(arch), arch)
    save_classifier(lambda images, known: forward(images, known, arch), weights, (IMAGE_SIZE, IMAGE_SIZE), folder)
    return folder


def bare_rate(model: Path, batches: int) -> float:
    """Images a second of bare_loop.py, in a process of its own."""
    command = [sys.executable, "benchmarks/bare_loop.py", str(model), "--batches", str(batches)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1])


def rate_of_all(progress: Progress) -> float:
    """Images a second from the first commit to the last."""
    (first, began), (last, ended) = progress[0], progress[-1]
    return (last - first) / (ended - began)


def measure(images: int, rounds: int) -> Rates:
    """The rates of the bare loop and of hublabel with each engine that is there."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        model, photos = export(scratch / "model"), photo_folder(scratch / "photos", images)
        settings = [f"model.handle={model}", f"run.shard_size={BATCH}", "image.transpose=false"]

        def run(name: str, *overrides: str) -> float:
            run_hublabel(photos, scratch, *settings, *overrides, name=name, config=CONFIG)
            return rate_of_all(commits(scratch / name))

        sides: dict[str, Callable[[], float]] = {BARE: lambda: bare_rate(model, images // BATCH)}
        sides[OURS] = lambda: run(OURS)
        if openvino_installed():
            sides[OURS_OPENVINO] = lambda: run(OURS_OPENVINO, OPENVINO)
        rates: Rates = {name: [] for name in sides}
        for number in range(rounds):
            for name in in_turn(list(sides), number):
                rates[name].append(sides[name]())
                print(f"round {number + 1}, {name}: {rates[name][-1]:.1f}/s", flush=True)
    return rates


def rates_table(rates: Rates) -> str:
    """Rates as Markdown, and their ratios to the bare loop round by round."""
    rows = [
        [name, f"{median(found):.1f}", ratio(list(zip(found, rates[BARE], strict=True)))]
        for name, found in rates.items()
    ]
    return table(["ConvMixer-1024/20", "images/s", "the bare loop = 1"], rows)


def report(images: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    rates = measure(images, rounds)
    text = f"{images:,} photos ({photo_kind()}), {rounds} rounds, medians:\n\n{rates_table(rates)}"
    print(f"\n{text}\n")
    if write:
        replace_table("end-to-end", text)
        ratios = [mine / bare for mine, bare in zip(rates[OURS], rates[BARE], strict=True)]
        write_target("convmixer-end-to-end", median(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
