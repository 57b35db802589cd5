"""Planning long lists of URIs: by the launcher alone, and by workers of Beam's local job service.

python -m benchmarks.planning [--uris 1000000 10000000] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.commands import QUICKSTART
from benchmarks.large_runs import plan_many
from benchmarks.measured import ROOT, Cost, measure
from benchmarks.tables import replace_table, table

PAGE = ROOT / "docs" / "scale.md"


def plan_on_workers(manifest: Path, scratch: Path) -> None:
    """Plan a list as `hublabel run` does with `run.planning: runner`: job service, pool and workers are processes."""
    from pipeline.children import Children
    from pipeline.config import load_config
    from pipeline.console import voice
    from pipeline.lock import output_lock
    from pipeline.pinning import pinned_record
    from pipeline.signals import stop_signals
    from tests.pipeline.remote.services import job_service, worker_pool
    from transforms.storage import LocalStorage

    with job_service(scratch) as service, worker_pool(scratch) as pool:
        options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
        ours = (f"input.path={manifest}", f"output.path={scratch / 'out'}", "run.planning=runner")
        config = load_config(QUICKSTART, [*ours, "runner.name=PortableRunner", f"runner.options={json.dumps(options)}"])
        storage = LocalStorage(str(scratch / "out"))
        with (
            output_lock(storage.root) as lock,
            stop_signals(lock.check) as signals,
            closing(Children(storage, lock, signals, config.runner.name)) as children,
        ):
            pinned_record(config, storage, voice("quiet"), signals, children=children)


def planned(uris: int, scratch: Path) -> tuple[Cost, Cost]:
    """What planning so many URIs costs the launcher alone, and workers with all that belongs to them."""
    alone = plan_many(uris, scratch).cost
    manifest = scratch / "manifest.txt"
    return alone, measure([sys.executable, "-m", "benchmarks.planning", "--list", str(manifest)], list)


def planning_table(costs: dict[int, tuple[Cost, Cost]]) -> str:
    """By number of URIs, as Markdown."""
    header = ["URIs", "launcher, s", "its peak memory, MB", "workers, s", "largest of their processes, MB"]
    rows = [
        [f"{uris:,}", *(text for c in pair for text in (f"{c.seconds:.1f}", f"{c.largest_bytes / 1e6:,.0f}"))]
        for uris, pair in costs.items()
    ]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uris", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--write", action="store_true", help="write the table into docs/scale.md")
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        if arguments.list:
            plan_on_workers(arguments.list, Path(folder))
            return
        costs = {}
        for uris in arguments.uris:
            scratch = Path(folder, str(uris))
            scratch.mkdir()
            costs[uris] = planned(uris, scratch)
            (scratch / "manifest.txt").unlink()
    text = planning_table(costs)
    print(f"\n{text}\n")
    if arguments.write:
        replace_table("planning", text, PAGE)


if __name__ == "__main__":
    main()
