"""Millions of rows through the real pipeline, with images and a model that cost next to nothing.

The command:

    python -m benchmarks.scale [--images 200000 5000000] [--folder FOLDER] [--write]

For each of these numbers, a list of so many URIs, all different (they lead to a thousand tiny files), is planned and
labelled by the command; DuckDB looks whether every row of the list is there exactly once, with its own URI, and whether
each file has the same label in all its rows; then the command is run again, and the output verified. Exit code 1 when a
row is wrong. 5 million take 0.5 GB of disk and, on two processors with nothing else to do, a quarter of an hour;
CI does 200,000.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.commands import QUICKSTART, commits
from benchmarks.measured import ROOT, Cost, measure
from benchmarks.tables import replace_table, table
from benchmarks.tiny import settings, tiny_images, tiny_model

FILES = 1_000
IMAGES = (200_000, 5_000_000)
MB = 1e6
PAGE = ROOT / "docs" / "scale.md"


@dataclass(frozen=True)
class Scale:
    """What so many images cost.

    Attributes:
        shards: of the plan, and so parts.
        run, again, verify: the three commands.
        ending: seconds of `run` after the last part, for the report.
        manifest_bytes, plan_bytes, parts_bytes, record_bytes: on disk; the last is run.yaml.
    """

    images: int
    shards: int
    run: Cost
    again: Cost
    verify: Cost
    ending: float
    manifest_bytes: int
    plan_bytes: int
    parts_bytes: int
    record_bytes: int


def measure_scale(images: int, scratch: Path) -> Scale:
    """Label so many images in `scratch`, and check the rows.

    Raises:
        RuntimeError: a row is missing, double or another image's.
    """
    folder, manifest = scratch / "images", scratch / "list.txt"
    folder.mkdir()
    tiny = tiny_images(scratch / "tiny", FILES)
    with manifest.open("w", encoding="utf-8") as file:
        for first in range(0, images, FILES):  # a folder of links for each thousand, so that no URI is there twice
            (folder / f"{first // FILES:06d}").symlink_to(tiny)
            file.writelines(f"{uri_of(folder, row)}\n" for row in range(first, min(first + FILES, images)))
    output = scratch / "out"
    overrides = (f"input.path={manifest}", f"output.path={output}", *settings(tiny_model(scratch / "model")))
    command = [sys.executable, "-m", "pipeline.cli", "run", QUICKSTART, "--set", "report.html=false"]
    command += [part for override in overrides for part in ("--set", override)]
    run = measure(command, lambda: commits(output))
    print(f"{images:,} labelled: {run.seconds:,.0f} s", flush=True)
    check(output, folder, images)
    done = commits(output)
    ending = run.seconds - run.first - (done[-1][1] - done[0][1])
    again = measure(command, list)
    verify = measure([sys.executable, "-m", "pipeline.cli", "verify", str(output)], list)
    report = json.loads((output / "report.json").read_text())
    assert report["images"] == images
    return Scale(
        images, report["plan"]["shards"], run, again, verify, ending, manifest.stat().st_size,
        _bytes(output / "plan"), _bytes(output / "predictions"), (output / "run.yaml").stat().st_size,
    )  # fmt: skip


def uri_of(folder: Path, row: int) -> str:
    """The URI of a row."""
    return f"{folder}/{row // FILES:06d}/{row % FILES:07d}.jpg"


def check(output: Path, folder: Path, images: int) -> None:
    """See that every row is there exactly once.

    Raises:
        RuntimeError: it is not, naming the first figure that is wrong.
    """
    rows = f"read_parquet('{output}/predictions/*/*.parquet')"
    found = duckdb.sql(
        f"""
        SELECT count(*), count(DISTINCT row), min(row), max(row), count(*) FILTER (status <> 'ok'),
               count(*) FILTER (uri <> printf('{folder}/%06d/%07d.jpg', row // {FILES}, row % {FILES}))
        FROM {rows}
        """
    ).fetchone()
    names = ("rows", "different rows", "first row", "last row", "failed rows", "rows with another row's URI")
    expected = (images, images, 0, images - 1, 0, 0)
    for name, is_there, should_be in zip(names, found or (), expected, strict=True):
        if is_there != should_be:
            raise RuntimeError(f"{name}: {is_there:,} instead of {should_be:,}")
    several = "count(DISTINCT label_index) > 1 OR count(DISTINCT sha256) > 1"
    grouped = f"SELECT row % {FILES} FROM {rows} GROUP BY row % {FILES} HAVING {several}"
    if differing := duckdb.sql(grouped).fetchall():
        raise RuntimeError(f"{len(differing):,} files have several labels, such as number {differing[0][0]}")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def scale_table(found: Sequence[Scale]) -> str:
    """The figures as Markdown, a column for each number of images."""
    figures: list[tuple[str, Callable[[Scale], str]]] = [
        ("shards, and so parts", lambda one: f"{one.shards:,}"),
        ("whole command", lambda one: f"{one.run.seconds:,.0f} s"),
        ("... to the first part on disk", lambda one: f"{one.run.first:,.0f} s"),
        ("... images a second between the first tenth and the last", lambda one: f"{one.run.rate:,.0f}"),
        ("... from the last part to the end", lambda one: f"{one.ending:,.1f} s"),
        ("... processor time an image", lambda one: f"{1000 * one.run.cpu_seconds / one.images:.2f} ms"),
        ("... peak memory of its largest process", lambda one: f"{one.run.largest_bytes / MB:,.0f} MB"),
        ("... peak memory of all its processes", lambda one: f"{one.run.tree_bytes / MB:,.0f} MB"),
        ("the same command again: nothing to do", lambda one: f"{one.again.seconds:.1f} s"),
        ("`hublabel verify`: every row", lambda one: f"{one.verify.seconds:,.0f} s"),
        ("... its peak memory", lambda one: f"{one.verify.largest_bytes / MB:,.0f} MB"),
        ("manifest, an image", lambda one: f"{one.manifest_bytes / one.images:.1f} bytes"),
        ("plan, an image", lambda one: f"{one.plan_bytes / one.images:.2f} bytes"),
        ("parts, an image", lambda one: f"{one.parts_bytes / one.images:.1f} bytes"),
        ("run.yaml", lambda one: f"{one.record_bytes:,} bytes"),
    ]
    rows = [[name, *map(figure, found)] for name, figure in figures]
    return table(["", *(f"{one.images:,} images" for one in found)], rows)


def report(numbers: Sequence[int], folder: Path | None, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    found = []
    for images in numbers:
        scratch = Path(tempfile.mkdtemp(prefix="hublabel-scale-", dir=folder))
        try:
            found.append(measure_scale(images, scratch))
        finally:
            shutil.rmtree(scratch)
    text = scale_table(found)
    print(f"\n{text}\n")
    if write:
        replace_table("scale", text, PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="of one run after the other")
    parser.add_argument("--folder", type=Path, help="where there is room (default: the system's temporary folder)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/scale.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.folder, arguments.write)


if __name__ == "__main__":
    main()
