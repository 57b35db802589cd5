"""`hublabel run` against the plain `tf.data` script, as whole commands in turn.

The command:

    python -m benchmarks.whole_command [--images 2000] [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from benchmarks.commands import Cost, run_hublabel, run_tf_data_script
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table

SAME_LABELS = 0.97  # at least; TensorFlow's default DCT is another than ours


def measure(images: int, rounds: int) -> tuple[list[tuple[Cost, Cost]], float]:
    """Pairs of (script, hublabel), one a round, who goes first alternating; and the share of labels they agree on.

    Raises:
        RuntimeError: they do not do the same work.
    """
    pairs = []
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        photos = photo_folder(scratch / "photos", images)
        for number in range(rounds):
            if number % 2:
                ours = run_hublabel(photos, scratch)
                script = run_tf_data_script(photos, scratch)
            else:
                script = run_tf_data_script(photos, scratch)
                ours = run_hublabel(photos, scratch)
            pairs.append((script, ours))
            print(f"round {number + 1}: {_line('script', script)}; {_line('hublabel', ours)}", flush=True)
        same = agreement(scratch)
    if same < SAME_LABELS:
        raise RuntimeError(f"script and hublabel agree on {same:.1%} of the labels only: one of them does other work")
    return pairs, same


def agreement(scratch: Path) -> float:
    """Share of the photos that both commands, run in `scratch`, have given the same label."""
    script = pq.read_table(scratch / "labels.parquet", columns=["uri", "label"])
    ours = pq.read_table(scratch / "hublabel" / "predictions", columns=["uri", "label"])
    expected = {Path(uri).name: label for uri, label in zip(*script.to_pydict().values(), strict=True)}
    found = {Path(uri).name: label for uri, label in zip(*ours.to_pydict().values(), strict=True)}
    if expected.keys() != found.keys():
        raise RuntimeError(f"the script labelled {len(expected)} photos, hublabel {len(found)}")
    return sum(expected[name] == found[name] for name in expected) / len(expected)


def _line(name: str, cost: Cost) -> str:
    return f"{name} {cost.seconds:.1f} s ({cost.cpu_seconds:.1f} s of CPU, first {cost.first:.1f} s, {cost.rate:.0f}/s)"


def ratio_table(pairs: list[tuple[Cost, Cost]]) -> str:
    """The comparison as Markdown: medians, and the median of the rounds' ratios."""
    scripts, ours = zip(*pairs, strict=True)
    rows = [
        _row("whole command, s", [c.seconds for c in scripts], [c.seconds for c in ours]),
        _row("CPU of the whole command, s", [c.cpu_seconds for c in scripts], [c.cpu_seconds for c in ours]),
        _row("steady state, images/s", [c.rate for c in scripts], [c.rate for c in ours], higher_is_better=True),
        _row("command to first batch, s", [c.first for c in scripts], [c.first for c in ours]),
    ]
    return table(["", "tf.data script", "hublabel", "ratio (above 1: hublabel is better)", "of the rounds"], rows)


def _row(name: str, script: list[float], ours: list[float], higher_is_better: bool = False) -> list[str]:
    ratios = [b / a if higher_is_better else a / b for a, b in zip(script, ours, strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return [name, f"{median(script):.1f}", f"{median(ours):.1f}", f"**{median(ratios):.2f}**", spread]


def report(images: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    pairs, same = measure(images, rounds)
    text = (
        f"{images:,} photos ({photo_kind()}), {rounds} paired rounds, medians; "
        f"both give the same label to {same:.1%} of the photos:\n\n{ratio_table(pairs)}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("whole-command", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
