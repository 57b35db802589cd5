"""The whole commands that are compared, where each leaves its labels, and how these are compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.measured import ROOT, Cost, Progress, measure

MODEL = ROOT / "models" / "efficientnet-lite0"
LABELS = ROOT / "configs" / "labels" / "ilsvrc2012_wordnet_lemmas.txt"
QUICKSTART = "configs/quickstart.yaml"
OPENVINO = "model.engine=openvino"

Labels = dict[str, str | None]  # by the photo's file name; None for a failed one


def openvino_installed() -> bool:
    """Whether hublabel can be run with `model.engine: openvino`."""
    return find_spec("openvino") is not None


def nncf_installed() -> bool:
    """Whether `hublabel quantize` can be run."""
    return find_spec("nncf") is not None


def int8_model(images: Path, scratch: Path) -> Path:
    """The quickstart's model in 8 bits, calibrated on `images`; made in `scratch`."""
    output = scratch / "int8-model"
    command = [sys.executable, "-m", "pipeline.cli", "quantize", QUICKSTART, "--set", f"input.path={images}"]
    subprocess.run([*command, "--output", str(output)], check=True, cwd=ROOT)
    return output


def run_hublabel(
    images: Path, scratch: Path, *overrides: str, name: str = "hublabel", config: str = QUICKSTART
) -> Cost:
    """Run `hublabel run CONFIG` over `images`, from the beginning, with its output in `scratch/NAME`."""
    output = scratch / name
    shutil.rmtree(output, ignore_errors=True)
    settings = [f"input.path={images}", f"output.path={output}", *overrides]
    command = [sys.executable, "-m", "pipeline.cli", "run", config]
    return measure([*command, *(part for setting in settings for part in ("--set", setting))], lambda: commits(output))


def run_script(script: str, images: Path, scratch: Path) -> Cost:
    """Run a plain script of this folder, such as `tf_data_script.py`; its labels go below `scratch/SCRIPT`."""
    folder = scratch / script
    folder.mkdir(exist_ok=True)
    timings = folder / "timings.json"
    command = [sys.executable, f"benchmarks/{script}", *script_arguments(images, folder), "--timings", str(timings)]
    return measure(command, lambda: [(int(done), at) for done, at in json.loads(timings.read_text(encoding="utf-8"))])


def script_arguments(images: Path, folder: Path) -> list[str]:
    """What scripts are told; labels go below `folder`."""
    files = {"--images": images, "--model": MODEL, "--labels": LABELS, "--output": folder / "labels.parquet"}
    return [str(part) for pair in files.items() for part in pair]


def commits(output: Path) -> Progress:
    """Rows on disk and since when, from the parts' footers."""
    footers = [json.loads(pq.read_metadata(path).metadata[b"hublabel"]) for path in output.rglob("part-*.parquet")]
    done, rows = [], 0
    for finished, count in sorted((footer["finished"], footer["rows"]) for footer in footers):
        rows += count
        done.append((rows, finished))
    return done


def labels_below(folder: Path) -> Labels:
    """The labels in all Parquet files below `folder` that have columns `uri` and `label`."""
    found: Labels = {}
    for path in sorted(folder.rglob("*.parquet")):
        if path.is_file() and {"uri", "label"} <= set(pq.read_schema(path).names):  # Ray gives folders such names
            table = pq.read_table(path, columns=["uri", "label"], partitioning=None)
            found.update((Path(uri).name, label) for uri, label in zip(*table.to_pydict().values(), strict=True))
    return found


def agreement(expected: Mapping[str, str | None], found: Mapping[str, str | None]) -> float:
    """Share of the photos that both have given the same label.

    Raises:
        RuntimeError: they are not of the same photos.
    """
    if expected.keys() != found.keys():
        raise RuntimeError(f"one labelled {len(expected)} photos, the other {len(found)}")
    return sum(expected[name] == found[name] for name in expected) / len(expected)
