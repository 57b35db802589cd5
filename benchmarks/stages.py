"""Each stage of a run alone on ready input, beside the bare library it rests on, and a whole run: processor time.

The command:

    python -m benchmarks.stages [--photos 640] [--tiny 20000] [--rounds 5] [--write]

All in one process; a figure is the processor time of all its threads for an image, the median of the rounds. A run is
taken without its start: what it costs more than one of a single shard, for each image more. Tiny images and a model
that costs nothing show what hublabel itself costs: there the small difference of two large figures is not lost in
their noise.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.commands import QUICKSTART
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table
from benchmarks.targets import write_target

SHARD = 128  # images, as `auto` has it for 20,000 images
READY = 256  # images that stages are measured with
OURS = ("plan", "label", "write")  # the stages that are hublabel's own work, besides threads, queues and Beam
SUM, RUN, REST = "sum of the stages", "a run", "threads, queues, Beam"

Times = dict[str, float]  # milliseconds of processor time an image, by stage


def measure(folder: Path, scratch: Path, overrides: list[str], rounds: int) -> tuple[Times, Times]:
    """The stages with their bare libraries, and with hublabel, over the images in `folder`.

    hublabel's have `SUM`, `RUN` and `REST` as well.
    """
    from benchmarks.stage_work import Work
    from pipeline.config import load_config

    fixed = [f"input.path={folder}", f"output.path={scratch / 'out'}", f"run.shard_size={SHARD}"]
    work = Work(load_config(QUICKSTART, [*overrides, *fixed]), folder, scratch, READY)
    bare: dict[str, list[float]] = {name: [] for name in work.bare}
    alone: dict[str, list[float]] = {name: [] for name in work.stages}
    whole: list[float] = []
    _warm_up(work.stages, work.bare)
    for _ in range(rounds):
        for name, stage in work.stages.items():
            alone[name].append(_milliseconds(stage) / work.images(name))
            if name in work.bare:
                bare[name].append(_milliseconds(work.bare[name]) / work.images(name))
        whole.append(work.run_milliseconds())
    times = {name: median(found) for name, found in alone.items()}
    return {name: median(found) for name, found in bare.items()}, with_rest(times, median(whole))


def with_rest(times: Times, run: float) -> Times:
    """The stages, their sum, the whole run (planning included), and what the stages leave of it."""
    total = sum(times.values())
    run += times["plan"]  # which is done by another process
    return {**times, SUM: total, RUN: run, REST: run - total}


def overhead(times: Times) -> float:
    """What of a run is hublabel's own work."""
    return times[REST] + sum(times[name] for name in OURS)


def _warm_up(*stages: dict[str, Callable[[], None]]) -> None:
    for group in stages:
        for stage in group.values():
            stage()


def _milliseconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def stages_table(bare: Times, photos: Times, tiny: Times) -> str:
    """Milliseconds of processor time an image, as Markdown."""
    rows = []
    for name in photos:
        limit, mine = bare.get(name), photos[name]
        ratio = f"{mine / limit:.2f}" if limit and limit >= 0.001 else ""
        rows.append([name, "" if limit is None else f"{limit:.3f}", f"{mine:.3f}", ratio, f"{tiny[name]:.3f}"])
    rows.append(["**hublabel's own**: plan, label, write, and the rest", "", f"{overhead(photos):.3f}", ""])
    rows[-1].append(f"**{overhead(tiny):.3f}**")
    columns = ["bare library", "hublabel", "hublabel / bare", "tiny images, a model that costs nothing"]
    return table(["ms of CPU an image", *columns], rows)


def report(photos: int, tiny: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow  # noqa: F401  # whole before Beam, see pipeline.child

    from benchmarks.tiny import settings, tiny_images, tiny_model

    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        images = photo_folder(scratch / "photos", photos)
        bare, real = measure(images, scratch / "real", [], rounds)
        images = tiny_images(scratch / "tiny", tiny)
        _, small = measure(images, scratch / "small", settings(tiny_model(scratch / "model")), rounds)
    text = (
        f"{photos:,} photos ({photo_kind()}) and {tiny:,} tiny images in shards of {SHARD}, medians of {rounds} rounds:"
        f"\n\n{stages_table(bare, real, small)}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("stages", text)
        write_target("overhead", overhead(small))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=640)
    parser.add_argument("--tiny", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.photos, arguments.tiny, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
