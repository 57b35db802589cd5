"""The peers' scripts: what they are called, and how one is run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import script_arguments
from benchmarks.measured import Cost, Progress, measure

PATIENCE = 1800.0  # seconds until a script is taken for hung


@dataclass(frozen=True)
class Peer:
    """Its name in the table, `{}` being the version of `package`."""

    title: str
    package: str


# By script and requirements.
PEERS = {
    "ray_data": Peer("Ray Data {}", "ray"),
    "daft_frame": Peer("Daft {}", "daft"),
    "beam_run_inference": Peer("RunInference of Beam {}", "apache-beam"),
    "openvino_threads": Peer("OpenVINO {} with a thread pool", "openvino"),
}


def run_peer(peer: str, python: Path, images: Path, scratch: Path) -> Cost:
    """Run the peer's script over `images`; its labels go below `scratch/PEER`.

    Raises:
        CommandError: it failed.
    """
    folder = scratch / peer
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    timings = folder / "timings.txt"
    command = [str(python), f"benchmarks/peers/{peer}.py", *script_arguments(images, folder)]
    return measure([*command, "--timings", str(timings)], lambda: read_timings(timings), PATIENCE)


def read_timings(path: Path) -> Progress:
    """Images done and since when, from lines of how many images more and when (`task.note_batch`)."""
    done, total = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        images, at = line.split()
        total += int(images)
        done.append((total, float(at)))
    return done
