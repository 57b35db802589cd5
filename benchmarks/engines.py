"""Engines and precisions against the bare frozen TensorFlow loop on ready tensors, and ConvMixer end to end.

The command:

    python -m benchmarks.engines [--rounds 10] [--images 600] [--end-to-end-rounds 3] [--write]

ConvMixer-1024/20 has random weights, in two forms: as `hublabel export` writes it, and as the module on TensorFlow Hub
is, which came from PyTorch through ONNX. Every way is a process of its own; they are called in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.commands import MODEL, OPENVINO, QUICKSTART, openvino_installed, run_hublabel
from benchmarks.measured import ROOT
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import ratio, replace_table, table
from benchmarks.targets import verdict, write_target
from pipeline.config import load_config
from pipeline.models.convmixer import IMAGE_SIZE, VARIANTS, fold_weights, forward
from pipeline.models.saved_model import save_classifier
from tests.pipeline.models.published_module import random_arrays, save_published_module
from transforms.ahead import batches
from transforms.decode_images import open_picture
from transforms.engines.division import Division
from transforms.engines.processor import has_bfloat16
from transforms.read import read_bytes
from transforms.records import Row

BATCH = 32
CONVMIXER = "configs/convmixer_1024_20.yaml"
BARE = ("bare", "float32")
LOOPS = 8  # calls of the bare loop before an end-to-end run, and as many behind it

Way = tuple[str, str]  # `bare` or an engine, and the precision


class Call(NamedTuple):
    """What one call of a batch took, in seconds."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Form:
    """A model to be run: its name in the table, its directory, the config it is preprocessed by."""

    name: str
    path: Path
    config: str


class Loop:
    """A process that calls a model in one way; see engine_loop.py."""

    def __init__(self, form: Form, way: Way, images: Path, division: Division | None = None) -> None:
        given: dict[str, Any] = {"path": str(form.path), "way": way[0], "precision": way[1], "images": str(images)}
        if division is not None:
            given["division"] = asdict(division)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine_loop", json.dumps(given)],
            cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if self._read() != "ready":
            raise RuntimeError(f"{form.name}, {way}: the model cannot be called")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def call(self, keep: Path | str = "") -> Call:
        """Call the model once; its logits go to the file `keep`, if it is named."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{keep}\n")
        self._process.stdin.flush()
        return Call(**json.loads(self._read()))

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def ways() -> list[Way]:
    """What can be run here, the bare loop first."""
    engines = ["tensorflow", *(["openvino"] if openvino_installed() else [])]
    precisions = ["float32", *(["bfloat16"] if has_bfloat16() else [])]
    return [BARE, *((engine, precision) for precision in precisions for engine in engines)]


def forms(scratch: Path) -> list[Form]:
    """EfficientNet-Lite0, and ConvMixer-1024/20 as exported and as published."""
    arch = VARIANTS["1024-20"]
    arrays = random_arrays(arch)
    exported, published = scratch / "exported", scratch / "published"
    size = (IMAGE_SIZE, IMAGE_SIZE)
    save_classifier(lambda x, weights: forward(x, weights, arch), fold_weights(arrays, arch), size, exported)
    save_published_module(published, arrays, arch)
    return [
        Form("EfficientNet-Lite0", MODEL, QUICKSTART),
        Form("ConvMixer-1024/20, exported", exported, CONVMIXER),
        Form("ConvMixer-1024/20, the Hub's form", published, CONVMIXER),
    ]


def photo_batch(config: str, photos: Path, file: Path) -> Path:
    """Write a batch of photos, preprocessed as `config` says, to `file`."""
    rows = [Row(number, number, str(path)) for number, path in enumerate(sorted(photos.iterdir())[:BATCH])]
    spec = load_config(ROOT / config).preprocessing()
    (batch,) = batches(rows, spec, BATCH, read_bytes, open_picture)
    assert batch.images is not None
    np.save(file, batch.images)
    return file


def measure(form: Form, images: Path, rounds: int) -> tuple[dict[Way, list[Call]], dict[Way, np.ndarray]]:
    """Calls of each way, one a round, who goes first changing; and the logits of each."""
    with ExitStack() as stack:
        loops = {way: stack.enter_context(Loop(form, way, images)) for way in ways()}
        calls: dict[Way, list[Call]] = {way: [] for way in loops}
        logits = {}
        for way, loop in loops.items():
            file = images.with_name("logits.npy")
            loop.call(file)
            logits[way] = np.load(file)
        for number in range(rounds):
            turn = number % len(loops)
            order = list(loops)
            for way in order[turn:] + order[:turn]:
                calls[way].append(loops[way].call())
    return calls, logits


def rows_of(form: Form, calls: dict[Way, list[Call]], logits: dict[Way, np.ndarray]) -> list[list[str]]:
    """A row of the table for each way."""
    rows = []
    for way, found in calls.items():
        pairs = [(bare.seconds, call.seconds) for bare, call in zip(calls[BARE], found, strict=True)]
        busy = [(bare.cpu_seconds, call.cpu_seconds) for bare, call in zip(calls[BARE], found, strict=True)]
        difference = np.abs(logits[way] - logits[BARE]).max() / np.abs(logits[BARE]).max()
        same = float((logits[way].argmax(axis=1) == logits[BARE].argmax(axis=1)).mean())
        name = "bare frozen loop" if way == BARE else f"`{way[0]}`" + ("" if way[1] == "float32" else f", {way[1]}")
        rows.append(
            [
                f"{form.name}: {name}",
                f"{BATCH / median(call.seconds for call in found):.1f}",
                "1" if way == BARE else ratio(pairs),
                "1" if way == BARE else ratio(busy),
                f"{difference:.0e}",
                f"{same:.0%}",
            ]
        )
    return rows


def end_to_end(form: Form, images: Path, photos: Path, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Steady state of `hublabel run` against the bare loop before and after it: a ratio a round, by engine."""
    settings = [f"model.handle={form.path}", "image.transpose=false", f"batch.size={BATCH}"]
    engines = ["tensorflow", *(["openvino"] if openvino_installed() else [])]
    found: dict[str, list[float]] = {engine: [] for engine in engines}
    with Loop(form, BARE, images) as loop:
        for number in range(rounds):
            for engine in engines if number % 2 == 0 else reversed(engines):
                seconds = [loop.call().seconds for _ in range(LOOPS)]
                chosen = [OPENVINO] if engine == "openvino" else []
                cost = run_hublabel(photos, scratch, *settings, *chosen, config=form.config)
                seconds += [loop.call().seconds for _ in range(LOOPS)]
                found[engine].append(cost.rate / (BATCH / median(seconds)))
                print(f"{engine}: {cost.rate:.1f}/s end to end, {found[engine][-1]:.2f} of the loop", flush=True)
    return found


def report(rounds: int, images: int, end_to_end_rounds: int, write: bool) -> None:
    """Measure, print, and put tables and targets into the page when `write`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        photos = photo_folder(scratch / "photos", max(images, BATCH))
        rows, speeds = [], {}
        for form in forms(scratch):
            batch = photo_batch(form.config, photos, scratch / "images.npy")
            calls, logits = measure(form, batch, rounds)
            rows += rows_of(form, calls, logits)
            speeds[form.name] = calls
            if form.name.endswith("exported"):
                whole = end_to_end(form, batch, photos, scratch, end_to_end_rounds)
    header = ["", "images/s", "speed", "speed by processor time", "largest difference", "same best class"]
    text = f"Batches of {BATCH}, {rounds} rounds ({photo_kind()}); the bare loop is 1:\n\n{table(header, rows)}"
    ends = [[f"`{engine}`", ratio([(value, 1.0) for value in values])] for engine, values in whole.items()]
    kept = table(["ConvMixer-1024/20, end to end / bare frozen loop", "ratio"], ends)
    print(f"\n{text}\n\n{kept}\n")
    targets = _targets(speeds["ConvMixer-1024/20, exported"], whole)
    for name, value in targets.items():
        print(f"{name}: {verdict(name, value)}")
        if write:
            write_target(name, value)
    if write:
        replace_table("engines", f"{text}\n\n{kept}")


def _targets(calls: dict[Way, list[Call]], whole: dict[str, list[float]]) -> dict[str, float]:
    targets = {"convmixer-end-to-end": median(whole["tensorflow"])}
    exact = calls.get(("openvino", "float32"))
    if exact:
        pairs: Sequence[tuple[Call, Call]] = list(zip(calls[BARE], exact, strict=True))
        targets["convmixer-engine"] = median(bare.seconds / call.seconds for bare, call in pairs)
    return targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=600, help="photos of an end-to-end run")
    parser.add_argument("--end-to-end-rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write tables and targets into docs/performance.md")
    arguments = parser.parse_args()
    report(arguments.rounds, arguments.images, arguments.end_to_end_rounds, arguments.write)


if __name__ == "__main__":
    main()
