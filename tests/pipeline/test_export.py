"""`hublabel export convmixer`: hyperparameters, refusals, and a model of the published size."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.models.convmixer import VARIANTS
from tests.pipeline.models.published_module import random_arrays
from tests.pipeline.models.torch_files import save_state_dict
from tests.pipeline.running import ChildInProcess, read_rows

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "convmixer"


@pytest.mark.parametrize("name", ["gelu_k5_p7", "relu_k7_p4"])
def test_free_hyperparameters(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tensorflow as tf

    spec = json.loads((DATA / "spec.json").read_text())[name]
    options = [
        f"--{option}={spec[option.replace('-', '_')]}"
        for option in ("dim", "depth", "kernel-size", "patch-size", "activation", "classes", "image-size")
    ]
    output = tmp_path / "models" / "small"
    arguments = ["export", "convmixer", *options, "--checkpoint", str(DATA / f"{name}.pth"), "--output", str(output)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        f"wrote {output}: ConvMixer-{spec['dim']}/{spec['depth']}, {spec['trainable_parameters']:,} trainable "
        f"parameters, {spec['classes']} classes, "
    )
    assert said[1].endswith("set image.transpose to false.")
    model = tf.saved_model.load(str(output))
    with np.load(DATA / f"{name}_io.npz") as data:
        found = model.signatures["serving_default"](tf.constant(data["images_nhwc"]))["output"]
        np.testing.assert_allclose(found, data["logits"], rtol=1e-4, atol=1e-4)


def small(**options: object) -> list[str]:
    values = {"dim": 48, "depth": 4, "kernel-size": 5, "patch-size": 7, "classes": 10, "image-size": 56, **options}
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (small(depth=None, **{"kernel-size": None}), "without --variant, --depth, --kernel-size must be given"),
        (small(dim=0), "ConvMixer: dim is 0; it must be a whole number of at least 1"),
        (small(dim=47), "gelu_k5_p7.pth: ConvMixer-47/4: "),
        (small(depth=5), "gelu_k5_p7.pth: ConvMixer-48/5: "),
        (small(**{"image-size": 6}), "image_size is 6; it must be at least the patch size 7"),
        (["--variant=768-32"], "gelu_k5_p7.pth: ConvMixer-768/32: "),
        (small(checkpoint="nowhere.pth"), "nowhere.pth: cannot be read: No such file or directory"),
        (small(checkpoint=DATA / "spec.json"), "spec.json: "),
    ],
)
def test_refusals(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model"
    arguments = ["export", "convmixer", f"--checkpoint={DATA}/gelu_k5_p7.pth", f"--output={output}", *options]
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not output.exists()


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("much work")
    arguments = ["export", "convmixer", *small(), f"--checkpoint={DATA}/gelu_k5_p7.pth", f"--output={tmp_path}"]
    assert cli.main(arguments) == 2
    assert "exists and is no SavedModel" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "much work"


@pytest.mark.slow
def test_a_model_of_the_published_size_exports_in_a_minute_and_labels(
    tmp_path: Path, children: type[ChildInProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """ConvMixer-1024/20, 24.4 million random weights, through both commands."""
    checkpoint = save_state_dict(tmp_path / "random.safetensors", random_arrays(VARIANTS["1024-20"]))
    began = time.monotonic()
    model = tmp_path / "model"
    command = ["export", "convmixer", "--variant=1024-20", f"--checkpoint={checkpoint}", f"--output={model}"]
    assert cli.main(command) == 0
    assert time.monotonic() - began < 60
    said = capsys.readouterr().out
    assert f"wrote {model}: ConvMixer-1024/20, 24,383,464 trainable parameters, 1,000 classes, 97" in said
    settings = [
        f"model.handle={model}", "image.transpose=false", f"input.path={ROOT}/samples/photos", "batch.size=4",
        f"output.path={tmp_path}/out", "input.limit=4",
    ]  # fmt: skip
    config = ROOT / "configs" / "convmixer_1024_20.yaml"
    assert cli.main(["run", str(config), *(f"--set={setting}" for setting in settings)]) == 0
    rows = read_rows(tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert all(row["label"] and 0 < row["score"] <= 1 for row in rows)
