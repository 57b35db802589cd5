"""Processor time and memory of `hublabel report` and `hublabel evaluate` over an output of millions of rows.

The command:

    python -m benchmarks.results [--rows 10000000] [--write]

makes the output and a truth for each of its rows first (1.5 GB for ten million rows, in half a minute).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.large_output import make_large_output, make_truth
from benchmarks.measured import Cost, measure
from benchmarks.tables import replace_table, table


def costs(rows: int) -> dict[str, Cost]:
    """What each command takes over `rows` rows."""
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        output, truth = Path(folder) / "out", Path(folder) / "truth.parquet"
        make_large_output(output, rows)
        make_truth(truth, rows)
        commands = {
            "hublabel report OUT": ["report", str(output)],
            "hublabel evaluate OUT --truth truth.parquet": ["evaluate", str(output), "--truth", str(truth)],
        }
        found = {}
        for name, arguments in commands.items():
            found[name] = measure([sys.executable, "-m", "pipeline.cli", *arguments], list)
            print(f"{name}: {found[name].seconds:.1f} s", flush=True)
        return found


def report(rows: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    lines = [
        [f"`{name}`", f"{cost.cpu_seconds:.0f}", f"{cost.tree_bytes / 2**20:,.0f}"]
        for name, cost in costs(rows).items()
    ]
    text = table([f"{rows:,} rows", "processor time, s", "peak RSS, MiB"], lines)
    print(f"\n{text}\n")
    if write:
        replace_table("results", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.rows, arguments.write)


if __name__ == "__main__":
    main()
