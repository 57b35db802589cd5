"""`hublabel quantize`: an 8-bit model beside the SavedModel it was made of, and runs with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import cli
from pipeline.models.convmixer import architecture, fold_weights, forward
from pipeline.models.saved_model import save_classifier
from pipeline.models.torch_checkpoint import read_checkpoint
from pipeline.quantize import _parted
from tests.pipeline.running import read_rows
from transforms.records import Row

DATA = Path(__file__).parents[1] / "data" / "convmixer"


@pytest.fixture(scope="module")
def convmixer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ConvMixer with trained weights: [-1, 56, 56, 3] to 10 classes."""
    given = json.loads((DATA / "spec.json").read_text())["gelu_k5_p7"]
    arch = architecture(**{name: given[name] for name in ("dim", "depth", "kernel_size", "patch_size", "classes")})
    weights = fold_weights(read_checkpoint(DATA / "gelu_k5_p7.pth"), arch)
    folder = tmp_path_factory.mktemp("models") / "convmixer"
    save_classifier(lambda x, w: forward(x, w, arch), weights, (56, 56), folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, convmixer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config for it, with 24 pictures of noise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 256, (7, 7, 3), np.uint8)
        Image.fromarray(pixels).resize((56, 56)).save(tmp_path / "photos" / f"{number:02d}.png")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"""
input: {{path: {tmp_path}/photos}}
model: {{handle: {convmixer}, outputs: {{logits: output}}}}
image: {{size: [56, 56]}}
batch: {{size: 4}}
output: {{path: {tmp_path}/out, logits: true}}
"""
    )
    return path


def test_calibrated_and_compared_on_images_from_all_over_the_input() -> None:
    rows = [Row(number, number, f"{number:03d}.png") for number in range(300)]
    calibrating, others = _parted(rows, 150)
    assert [len(calibrating), len(others)] == [150, 100]
    assert not {row.uri for row in calibrating} & {row.uri for row in others}
    for part in (calibrating, others):
        assert [row.position for row in part] == list(range(len(part)))
        thirds = Counter(row.row // 100 for row in part)
        assert min(thirds[third] for third in range(3)) > len(part) / 5


@pytest.mark.slow
def test_a_quantized_model_is_made_and_used(
    config: Path, convmixer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "00.png").write_bytes(b"broken")
    made = tmp_path / "int8"
    assert cli.main(["quantize", str(config), "--output", str(made), "--images", "12"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"wrote {made}\nint8 against float32 (TensorFlow ")
    facts = json.loads((made / "openvino_int8.json").read_text())
    assert 8 <= facts["images"] <= 12
    assert facts["agreement"]["precision"] == "int8"
    assert 4 <= facts["agreement"]["images"] <= 8  # others than it was calibrated on
    assert facts["agreement"]["top1"] >= 0.5
    assert 0 < facts["agreement"]["output_difference"]["logits"] < 0.2
    assert b"FakeQuantize" in (made / "openvino_int8.xml").read_bytes()
    assert (made / "saved_model.pb").read_bytes() == (convmixer / "saved_model.pb").read_bytes()

    fast = ["--set", f"model.handle={made}", "--set", "model.engine=openvino", "--set", "model.precision=int8"]
    assert cli.main(["run", str(config), *fast]) == 0
    exact = ["--set", "model.engine=openvino", "--set", f"output.path={tmp_path}/exact"]
    assert cli.main(["run", str(config), *exact]) == 0
    logits = [np.array([row["logits"] for row in read_rows(tmp_path / name)[1:]]) for name in ("out", "exact")]
    difference = np.abs(logits[0] - logits[1]).max() / np.abs(logits[1]).max()
    assert 1e-4 < difference < 0.2  # it is the quantized model that was run
    kept = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert (kept["precision"], kept["images"]) == ("int8", 23)

    assert cli.main(["quantize", str(config), "--output", str(made)]) == 2
    assert "is there already; name a new folder" in capsys.readouterr().err


def test_int8_needs_a_quantized_model(config: Path, convmixer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "model.engine=openvino", "--set", "model.precision=int8"]
    assert cli.main(["run", str(config), *settings]) == 2
    said = capsys.readouterr().err
    assert (
        f"model.precision: int8 needs a quantized model, and {convmixer} holds none; make one by `hublabel qu" in said
    )
    assert cli.main(["run", str(config), "--set", "model.precision=int8"]) == 2
    assert "model.precision: 'int8' is not valid: it needs model.engine: openvino" in capsys.readouterr().err


def test_too_few_images_to_calibrate_on(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "int8"
    command = ["quantize", str(config), "--output", str(made), "--set", "input.limit=6"]
    assert cli.main(command) == 2
    assert "input.path: 4 images could be decoded, and 8 are needed to calibrate on" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if "int8" in path.name) == []


def test_without_nncf(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pipeline.quantize.find_spec", lambda name: None)
    assert cli.main(["quantize", str(config), "--output", "nowhere"]) == 2
    assert "quantize: nncf is not installed; pip install 'hublabel[int8]'" in capsys.readouterr().err
