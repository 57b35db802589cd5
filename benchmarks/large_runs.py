"""Planning ten million images, and going on with a run of ten thousand parts.

The command:

    python -m benchmarks.large_runs [--uris 10000000] [--parts 10000] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.commands import LABELS, QUICKSTART
from benchmarks.measured import ROOT, Cost, measure
from benchmarks.tables import replace_table, table
from benchmarks.targets import write_target

SHARD, TOP_K, IMAGES, CHUNK = 32, 5, 100, 100_000


@dataclass(frozen=True)
class Planned:
    """What the plan of a long manifest cost, and its sizes on disk in bytes."""

    uris: int
    cost: Cost
    manifest_bytes: int
    plan_bytes: int


@dataclass(frozen=True)
class Resumed:
    """Seconds from the command to what it said: what is left, that it labels, that it is done."""

    parts: int
    known: float
    labelling: float
    done: float


def plan_many(uris: int, scratch: Path) -> Planned:
    """Plan a text manifest of so many URIs, in a process of its own."""
    manifest, root = scratch / "manifest.txt", scratch / "planned"
    with manifest.open("w", encoding="utf-8") as file:
        for first in range(0, uris, CHUNK):
            numbers = range(first, min(first + CHUNK, uris))
            file.writelines(f"https://images.example.org/{n % 997:03d}/{n:09d}.jpg\n" for n in numbers)
    work = f"from pipeline.plan import make_plan; make_plan({str(manifest)!r}, {str(root)!r}, batch_size=32)"
    cost = measure([sys.executable, "-c", work], list)
    plan_bytes = sum(path.stat().st_size for path in (root / "plan").iterdir())
    return Planned(uris, cost, manifest.stat().st_size, plan_bytes)


def resume_many(parts: int, scratch: Path) -> Resumed:
    """Go on with a run of so many parts, all but the last of which are there."""
    settings = _settings(parts, scratch)
    _begin(settings, scratch)
    command = [sys.executable, "-m", "pipeline.cli", "run", QUICKSTART, "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    heard = list(_listen(command))
    if heard[-1][1].get("labelled_or_failed_now") != SHARD:
        raise RuntimeError(f"it did not go on with the last shard alone: {heard[-1][1]}")
    known = next(at for at, event in heard if event["event"] == "resume")
    labelling = next(at for at, event in heard if event.get("name") == "labelling")
    return Resumed(parts, known, labelling, heard[-1][0])


def _settings(parts: int, scratch: Path) -> list[str]:
    from benchmarks.tiny import settings, tiny_images, tiny_model

    uris = sorted(map(str, tiny_images(scratch / "tiny", IMAGES).iterdir()))
    manifest = scratch / "list.txt"
    manifest.write_text("".join(f"{uris[row % IMAGES]}\n" for row in range(parts * SHARD)), encoding="utf-8")
    ours = (f"input.path={manifest}", f"output.path={scratch / 'out'}", f"run.shard_size={SHARD}")
    return [*settings(tiny_model(scratch / "model")), *ours]


def _begin(settings: list[str], scratch: Path) -> None:
    """The output of a run that stopped before its last shard."""
    from pipeline.config import load_config
    from pipeline.console import voice
    from pipeline.pinning import pinned_record
    from pipeline.plan import SHARDS_PER_FILE
    from pipeline.signals import Signals
    from transforms.parts import PartFooter, encode_part, part_name
    from transforms.records import Shard
    from transforms.storage import LocalStorage

    storage = LocalStorage(str(scratch / "out"))
    storage.prepare()
    record = pinned_record(load_config(QUICKSTART, settings), storage, voice("quiet"), Signals())
    rows, left = _labelled(), record.plan.shards - 1
    for number, file in enumerate(record.plan.files):
        (scratch / "out" / "predictions" / f"{number:05d}").mkdir(parents=True)
        for group in range(min(file.shards, left)):
            first = (number * SHARDS_PER_FILE + group) * SHARD
            table = rows.set_column(0, rows.schema.field(0), [np.arange(first, first + SHARD)])
            footer = PartFooter(
                record.plan.fingerprint, number, group, 0, SHARD, 0, record.fingerprint, {"model": 1.0}, time.time()
            )
            (scratch / "out" / part_name(Shard(number, group, SHARD))).write_bytes(encode_part(table, footer))
        left -= min(file.shards, left)


def _labelled() -> pa.Table:
    """The rows of a part, as they would be but for their numbers."""
    from transforms.records import Columns, Row, rows_to_table

    labels = LABELS.read_text(encoding="utf-8").splitlines()
    classes, scores = np.arange(TOP_K), np.linspace(0.9, 0.1, TOP_K, dtype=np.float32)
    rows = [Row(n, n, f"{n}.jpg", 16, 16, "jpeg", 700, "0" * 64, classes=classes, scores=scores) for n in range(SHARD)]
    return rows_to_table(rows, Columns(TOP_K), labels, 0, None)


def _listen(command: list[str]) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events of a command, each with the seconds since it was given.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            yield time.perf_counter() - began, json.loads(line)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}")


def large_table(planned: Planned, resumed: Resumed) -> str:
    """Both as Markdown."""
    sizes = f"{planned.manifest_bytes / 1e6:,.0f} MB, {planned.plan_bytes / 1e6:,.0f} MB"
    rows = [
        [f"planning a text manifest of {planned.uris:,} URIs", f"{planned.cost.seconds:.1f} s"],
        ["... its peak memory", f"{planned.cost.largest_bytes / 1e6:,.0f} MB"],
        ["... the manifest, and its plan", sizes],
        [f"resuming over {resumed.parts:,} parts: command to what is left", f"{resumed.known:.1f} s"],
        ["... to labelling, TensorFlow and Beam being there", f"{resumed.labelling:.1f} s"],
        ["... to the end, one shard and the reports later", f"{resumed.done:.1f} s"],
    ]
    return table(["", ""], rows)


def report(uris: int, parts: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        planned = plan_many(uris, Path(folder))
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        resumed = resume_many(parts, Path(folder))
    text = large_table(planned, resumed)
    print(f"\n{text}\n")
    if write:
        replace_table("large-runs", text)
        write_target("plan-seconds", planned.cost.seconds)
        write_target("plan-memory", planned.cost.largest_bytes / 1e6)
        write_target("resume", resumed.known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uris", type=int, default=10_000_000)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.uris, arguments.parts, arguments.write)


if __name__ == "__main__":
    main()
