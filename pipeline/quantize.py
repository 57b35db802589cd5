"""The command `hublabel quantize CONFIG`: a model that OpenVINO multiplies in 8 bits, calibrated on a run's images."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.console import plain_console
from pipeline.errors import HublabelError, UsageError
from transforms.engines.engine import ModelError, ModelSpec
from transforms.lean import import_lean

if TYPE_CHECKING:
    from pipeline.agreement import Agreement
    from pipeline.config import RunConfig
    from pipeline.console import Voice
    from transforms.records import Row

IMAGES = 256  # that it is calibrated on, unless told otherwise
FEWEST = 8  # of these that must be readable
HELD_OUT = 128  # more images, on which the result is compared with float32
FACTS = "openvino_int8.json"


def quantize_command(path: str, overrides: Sequence[str], output: str, images: int = IMAGES) -> int:
    """Quantize the model of the config at `path` and write it to `output`; returns the exit code.

    Raises:
        UsageError: the config does not fit what it names, `output` is taken, or nncf is not installed.
        HublabelError: the model cannot be fetched or quantized.
    """
    from pipeline.config import load_config

    config = load_config(path, [*overrides, "model.engine=openvino", "model.precision=int8"])
    folder = Path(output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output: {output} is there already; name a new folder, or remove it first")
    if find_spec("nncf") is None:
        raise UsageError("quantize: nncf is not installed; pip install 'hublabel[int8]'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        agreement = quantize(config, folder, images, plain_console(stderr=True))
    except ModelError as error:
        raise UsageError(str(error)) from None
    print(f"wrote {output}\n{agreement}")
    print(f"Use it by: model.handle: {output}, model.engine: openvino, model.precision: int8")
    return 0


def quantize(config: RunConfig, folder: Path, images: int, console: Voice) -> Agreement:
    """Write the model of `config` to `folder`, quantized beside the SavedModel it was; how far it agrees with float32.

    Images are a random sample of the input; those the result is compared on are others than it is calibrated on.
    """
    from pipeline.agreement import agreement_on, filled_batches, sample_outputs
    from pipeline.check.command import draw, import_quietly
    from pipeline.loading import model_spec
    from pipeline.resolve import resolve_model
    from transforms.engines.reference import Reference
    from transforms.model import Classifier

    drawn = draw(config, console, images + HELD_OUT)
    model = resolve_model(config.model.handle, config.model.sha256, console)
    import_quietly()
    spec = replace(model_spec(config, model), precision="float32")
    calibrating, held_out = _parted(drawn.rows, images)
    with _new_folder(folder) as scratch:
        shutil.copytree(model, scratch, dirs_exist_ok=True)
        console.print("calibrating ...")
        used = _quantize(spec, scratch, _images(config, calibrating))
        console.print("comparing with float32 ...")
        classifier = Classifier(replace(spec, path=str(scratch), precision="int8"))
        with contextlib.closing(Reference(spec)) as reference:
            sample = sample_outputs(filled_batches(config, held_out, classifier), classifier)
            agreement = agreement_on(sample, config, reference)
        facts = {
            "images": used,
            "openvino": version("openvino"),
            "nncf": version("nncf"),
            "agreement": asdict(agreement),
        }
        (scratch / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return agreement


def _parted(rows: Sequence[Row], images: int) -> tuple[list[Row], list[Row]]:
    """Rows to calibrate on, and others, both from all over; of few rows about a third are others.

    Numbered anew, as shards of their own.
    """
    rows = random.Random(0).sample(rows, len(rows))  # they come in the input's order, often class by class
    others = min(HELD_OUT, max(1, len(rows) // 3))
    parts = rows[: len(rows) - others][:images], rows[len(rows) - others :]
    for part in parts:
        for position, row in enumerate(part):
            row.position = position
    return list(parts[0]), list(parts[1])


def _images(config: RunConfig, rows: Sequence[Row]) -> np.ndarray:
    """[N, H, W, 3], ready for the model: those of `rows` that can be decoded."""
    from pipeline.graph import reading
    from pipeline.reading import reader
    from transforms.ahead import batches
    from transforms.decode_images import open_picture

    spec = config.preprocessing()
    run = batches(rows, spec, config.batch.size, reader(config), open_picture, **reading(config.run))
    found = [batch.images[: len(batch.rows)].copy() for batch in run if batch.images is not None]
    count = sum(map(len, found))
    if count < FEWEST:
        raise UsageError(f"input.path: {count} images could be decoded, and {FEWEST} are needed to calibrate on")
    return np.concatenate(found)


def _quantize(spec: ModelSpec, folder: Path, images: np.ndarray) -> int:
    """Write the quantized model into `folder`; how many of `images` it took."""
    from transforms.engines.openvino import QUANTIZED, OpenVINOEngine

    openvino, nncf = import_lean("openvino"), import_lean("nncf")
    model = OpenVINOEngine(spec).model
    length = model.input().get_partial_shape()[0]
    batch = 1 if length.is_dynamic else length.get_length()
    items = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    if not items:
        raise UsageError(f"input.path: {len(images)} images could be decoded, and the model takes {batch} at a time")
    nncf.set_log_level(40)  # errors
    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantized = nncf.quantize(model, nncf.Dataset(items), subset_size=len(items))
    except (nncf.InternalError, nncf.ValidationError, nncf.UnsupportedModelError, RuntimeError) as error:
        raise HublabelError(f"nncf cannot quantize the model: {' '.join(str(error).split())}") from error
    openvino.save_model(quantized, folder / QUANTIZED, compress_to_fp16=False)
    return len(items) * batch


@contextlib.contextmanager
def _new_folder(folder: Path) -> Any:
    """A folder to fill, which becomes `folder` when all has gone well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
