"""Peak resident memory of `hublabel run` and of the plain script, at 500 and at 5,000 photos.

The command:

    python -m benchmarks.memory [--images 500 5000] [--write]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.commands import run_hublabel, run_script
from benchmarks.measured import Cost
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table
from benchmarks.targets import write_target


def measure(counts: list[int]) -> list[tuple[int, Cost, Cost]]:
    """(images, script, hublabel) for each count."""
    found = []
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        for count in counts:
            photos = photo_folder(scratch / f"photos-{count}", count)
            found.append((count, run_script("tf_data_script.py", photos, scratch), run_hublabel(photos, scratch)))
            print(f"{count} photos: {[round(cost.largest_bytes / 2**20) for cost in found[-1][1:]]} MiB", flush=True)
    return found


def memory_table(found: list[tuple[int, Cost, Cost]]) -> str:
    """Peaks as Markdown, in MiB."""
    rows = [
        [
            f"{count:,} photos",
            _mebibytes(script.largest_bytes),
            _mebibytes(ours.largest_bytes),
            _mebibytes(ours.tree_bytes),
            f"{(ours.tree_bytes - script.tree_bytes) / 2**20:+,.0f}",
        ]
        for count, script, ours in found
    ]
    columns = ["tf.data script", "hublabel, its child", "hublabel, all its processes", "more than the script"]
    return table(["peak RSS, MiB", *columns], rows)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f}"


def report(counts: list[int], write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    found = measure(counts)
    (_, _, first), (_, _, last) = found[0], found[-1]
    growth = last.tree_bytes / first.tree_bytes
    text = (
        f"{photo_kind()}; {counts[-1] / counts[0]:g} times the photos take {growth:.2f} times the memory:\n\n"
        f"{memory_table(found)}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("memory", text)
        write_target("memory", max(ours.tree_bytes - script.tree_bytes for _, script, ours in found) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.write)


if __name__ == "__main__":
    main()
