"""How a run grows with the number of images, and with the size of shards and batches.

The command:

    python -m benchmarks.growth [--tiny 500 5000 50000] [--photos 1000] [--rounds 2] [--write]

Tiny images and a model that costs nothing show what hublabel itself costs; photos and the quickstart's model, what of
it is to be seen.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.commands import QUICKSTART, run_hublabel
from benchmarks.measured import Cost
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import ratio, replace_table, table
from benchmarks.tiny import settings, tiny_images, tiny_model
from benchmarks.whole_command import better, in_turn

SHARDS, BATCHES, USUAL = (32, 128, 512), (8, 16, 32, 64), 32
SHARD = 128  # while batch sizes vary


def measure_counts(counts: Sequence[int], model: Path, scratch: Path) -> list[tuple[int, Cost]]:
    """What runs of so many tiny images cost."""
    found = []
    for count in counts:
        folder = tiny_images(scratch / f"tiny-{count}", count)
        found.append((count, run_hublabel(folder, scratch, *settings(model))))
        print(f"{count:,} tiny images: {found[-1][1].seconds:.1f} s", flush=True)
    return found


def counts_table(found: Sequence[tuple[int, Cost]]) -> str:
    """Growth with the number of images, as Markdown; the cost of an image is that of those more than the line above."""
    rows = []
    for (before, less), (count, cost) in zip([found[0], *found], found, strict=False):
        more = f"{1000 * (cost.cpu_seconds - less.cpu_seconds) / (count - before):.2f}" if count > before else ""
        memory = f"{cost.tree_bytes / 2**20:,.0f}"
        rows.append([f"{count:,}", f"{cost.seconds:.1f}", f"{cost.first:.1f}", f"{cost.rate:,.0f}", more, memory])
    columns = ["whole command, s", "command to first shard on disk, s", "steady state, images/s"]
    return table(["tiny images", *columns, "ms of CPU for each image more", "peak RSS, MiB"], rows)


def measure_sizes(
    key: str, sizes: Sequence[int], photos: Path, tiny: Path, model: Path, scratch: Path, rounds: int
) -> dict[int, list[tuple[Cost, float]]]:
    """By size, for each round: the cost of labelling `photos`, and the CPU of one `tiny` image in milliseconds.

    Args:
        key: the setting that has these sizes.
    """
    found: dict[int, list[tuple[Cost, float]]] = {size: [] for size in sizes}
    _tiny_milliseconds(tiny, settings(model), scratch / "run")  # the first run in a process costs more
    for number in range(rounds):
        for size in in_turn(sizes, number):
            override = f"{key}={size}"
            cost = run_hublabel(photos, scratch, override)
            milliseconds = _tiny_milliseconds(tiny, [*settings(model), override], scratch / "run")
            found[size].append((cost, milliseconds))
            print(f"round {number + 1}, {override}: {cost.seconds:.1f} s, tiny {milliseconds:.2f} ms", flush=True)
    return found


def _tiny_milliseconds(folder: Path, overrides: list[str], scratch: Path) -> float:
    """CPU of one image in a run in this process."""
    from benchmarks.stage_work import Work
    from pipeline.config import load_config

    shutil.rmtree(scratch, ignore_errors=True)
    fixed = [f"run.shard_size={SHARD}", f"input.path={folder}", f"output.path={scratch / 'out'}"]
    work = Work(load_config(QUICKSTART, [*fixed, *overrides]), folder, scratch, ready=max(BATCHES))
    return work.run_milliseconds()


def sizes_table(title: str, found: dict[int, list[tuple[Cost, float]]]) -> str:
    """Growth with a size, as Markdown; speeds are compared with the size that is usual."""
    rows = []
    usual = [cost.seconds for cost, _ in found[USUAL]]
    for size, rounds in found.items():
        costs = [cost for cost, _ in rounds]
        rows.append(
            [
                str(size),
                f"{median(cost.seconds for cost in costs):.1f}",
                ratio(better(usual, [cost.seconds for cost in costs])),
                f"{median(cost.first for cost in costs):.1f}",
                f"{median(cost.tree_bytes for cost in costs) / 2**20:,.0f}",
                f"{median(milliseconds for _, milliseconds in rounds):.2f}",
            ]
        )
    columns = ["whole command, s", f"speed, {USUAL} = 1", "command to first shard on disk, s", "peak RSS, MiB"]
    return table([title, *columns, "tiny images, ms of CPU each"], rows)


def report(counts: Sequence[int], photos: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the tables into the page when `write`."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        model = tiny_model(scratch / "model")
        text = counts_table(measure_counts(counts, model, scratch))
        images = photo_folder(scratch / "photos", photos)
        tiny = scratch / f"tiny-{counts[1]}"
        for key, title, sizes in (("run.shard_size", "shard size", SHARDS), ("batch.size", "batch size", BATCHES)):
            found = measure_sizes(key, sizes, images, tiny, model, scratch, rounds)
            text += f"\n\n{photos:,} photos ({photo_kind()}), {rounds} rounds:\n\n{sizes_table(title, found)}"
    print(f"\n{text}\n")
    if write:
        replace_table("growth", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=int, nargs="+", default=[500, 5_000, 50_000])
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.tiny, arguments.photos, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
