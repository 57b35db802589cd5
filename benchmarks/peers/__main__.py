"""hublabel against other software that labels photos with the same SavedModel, as whole commands in turn.

The command, `make bench-peers`:

    python -m benchmarks.peers [--images 1000] [--rounds 3] [--only NAME ...] [--environments FOLDER] [--write]

Each peer is a script of this folder, written as a user of that library would, and runs in an environment of its own,
which is made when it is not there (some minutes and 2 GB each, once).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.commands import OPENVINO, agreement, labels_below, openvino_installed, run_hublabel
from benchmarks.measured import CommandError
from benchmarks.peers.damaged import outcome, photos_with_one_cut_short
from benchmarks.peers.environments import environment, version
from benchmarks.peers.scripts import PEERS, run_peer
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import ratio, replace_table, table
from benchmarks.whole_command import OURS, OURS_OPENVINO, Costs, Run, better, in_turn

ENVIRONMENTS = Path.home() / ".cache" / "hublabel" / "peers"


def sides(peers: list[str], environments: Path) -> dict[str, Run]:
    """What is compared, by name; hublabel first."""
    found: dict[str, Run] = {OURS: run_hublabel}
    if openvino_installed():
        found[OURS_OPENVINO] = lambda images, scratch: run_hublabel(images, scratch, OPENVINO, name=OURS_OPENVINO)
    for peer in peers:
        python = environment(peer, environments)
        found[peer] = lambda images, scratch, peer=peer, python=python: (  # type: ignore[misc]
            run_peer(peer, python, images, scratch)
        )
    return found


def measure(runs: dict[str, Run], photos: Path, scratch: Path, rounds: int) -> Costs:
    """What each cost in each round; who fails is told of and left out."""
    costs: Costs = {name: [] for name in runs}
    for number in range(rounds):
        for name in in_turn(list(costs), number):
            try:
                cost = runs[name](photos, scratch)
            except CommandError as error:
                if name == OURS:
                    raise
                print(f"{name} is left out: {error}", flush=True)
                del costs[name]
                continue
            costs[name].append(cost)
            print(f"round {number + 1}, {name}: {cost.seconds:.1f} s, {cost.rate:.0f}/s", flush=True)
    return costs


def peers_table(costs: Costs, same: dict[str, float], damaged: dict[str, str]) -> str:
    """A row for each side, the ratios being hublabel's advantage over it, above 1 where hublabel is better."""
    rows = []
    for name, found in costs.items():
        cells = [_title(name), f"{median(cost.seconds for cost in found):.1f}"]
        cells += [_advantage(costs, side, name, "seconds") for side in (OURS, OURS_OPENVINO)]
        cells.append(f"{median(cost.rate for cost in found):.0f}")
        cells += [_advantage(costs, side, name, "rate") for side in (OURS, OURS_OPENVINO)]
        cells.append(f"{median(cost.cpu_seconds for cost in found):.1f}")
        cells.append(f"{median(cost.tree_bytes for cost in found) / 2**20:,.0f}")
        cells += [f"{same[name]:.1%}", damaged[name]]
        rows.append(cells)
    ours = ["hublabel faster by", "with OpenVINO by"]
    header = ["", "whole command, s", *ours, "steady state, images/s", *ours, "CPU, s", "peak RSS, MiB", "same labels"]
    return table([*header, "a photo cut short"], rows)


def _title(name: str) -> str:
    return PEERS[name].title.format(version(name, PEERS[name].package)) if name in PEERS else name


def _advantage(costs: Costs, ours: str, name: str, measure: str) -> str:
    if ours not in costs or name in (OURS, OURS_OPENVINO):
        return ""
    values = ([getattr(cost, measure) for cost in costs[side]] for side in (name, ours))
    return ratio(better(*values, more_is_better=measure == "rate"))


def damage(runs: dict[str, Run], costs: Costs, scratch: Path) -> dict[str, str]:
    """What becomes of a photo that is cut short, by side."""
    photos, bad = photos_with_one_cut_short(scratch / "damaged")
    found = {}
    for name in costs:
        here = scratch / f"damaged-{name}"
        here.mkdir()
        failed = _fails(runs[name], photos, here)
        found[name] = outcome(here, bad, failed)
        print(f"a photo cut short, {name}: {found[name]}", flush=True)
    return found


def _fails(run: Run, photos: Path, scratch: Path) -> bool:
    try:
        run(photos, scratch)
    except CommandError:
        return True
    return False


def report(images: int, rounds: int, peers: list[str], environments: Path, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`."""
    runs = sides(peers, environments)
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        costs = measure(runs, photo_folder(scratch / "photos", images), scratch, rounds)
        ours = labels_below(scratch / OURS)
        same = {name: agreement(ours, labels_below(scratch / name)) for name in costs}
        damaged = damage(runs, costs, scratch)
    text = f"{images:,} photos ({photo_kind()}), {rounds} rounds, medians:\n\n{peers_table(costs, same, damaged)}"
    print(f"\n{text}\n")
    if write:
        replace_table("peers", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="NAME")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where they are made and kept")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.images, arguments.rounds, arguments.only, arguments.environments, arguments.write)


if __name__ == "__main__":
    main()
