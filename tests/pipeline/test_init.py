from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import RunConfig, load_config
from pipeline.init import config_text
from tests.saved_models import means, save_signature

FLAGS = ["--input", "photos/", "--model", "models/lite0"]


def init(path: Path | str, *arguments: str) -> int:
    return cli.main(["init", str(path), *arguments])


def test_a_config_from_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cats.yaml"
    assert init(path, *FLAGS, "--input", "1e-3", "--set", "run.max_failed.fraction=0.5") == 0
    assert capsys.readouterr().out == f"wrote {path}; next: hublabel check {path}\n"
    given = {name: section for name, section in yaml.safe_load(path.read_text()).items() if section}
    assert given == {
        "input": {"path": ["photos/", "1e-3"]},
        "model": {"handle": "models/lite0"},
        "output": {"path": "out/cats"},
        "run": {"max_failed": {"fraction": 0.5}},
    }
    assert load_config(path).input.paths == ("photos/", "1e-3")
    assert path.read_text().startswith("# Label photos/, 1e-3 with models/lite0.\n")


def test_what_is_commented_out_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the comment signs it is the same config, key for key."""
    assert init("-", *FLAGS) == 0
    text = capsys.readouterr().out
    keys = tmp_path / "keys.yaml"
    lines = text.partition("\n\n")[2].splitlines()
    live = [line.replace("# ", "", 1) if _is_key(line) else line for line in lines]
    keys.write_text("\n".join(live))
    given = tmp_path / "given.yaml"
    given.write_text(text)
    assert load_config(keys) == load_config(given)
    values = yaml.safe_load(keys.read_text())
    assert set(_names(RunConfig.model_json_schema(), RunConfig.model_json_schema())) == set(_paths(values))


def _is_key(line: str) -> bool:
    name = line.strip().removeprefix("#").strip().partition(":")[0]
    return line.strip().startswith("#") and name.isidentifier()


def _paths(values: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        nested = isinstance(value, dict) and before + name in ("input.http", "run.max_failed", "run.timeout")
        found += _paths(value, f"{before}{name}.") if nested or not before else [before + name]
    return found


def _names(node: dict[str, Any], schema: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for name, field in node["properties"].items():
        inner = schema["$defs"].get(field.get("$ref", "").removeprefix("#/$defs/"))
        found += _names(inner, schema, f"{before}{name}.") if inner else [before + name]
    return found


@pytest.mark.parametrize("path", ["2024", "null", "~/x", "a: b", "- x", "*.jpg", "it's", "1e-3", "über/写真", "true"])
def test_any_path_comes_back_as_it_was(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = tmp_path / "run.yaml"
    values = {"input": {"path": path}, "model": {"handle": path}, "output": {"path": path}}
    file.write_text(config_text(values, str(file)))
    config = load_config(file)
    assert config.input.path == config.model.handle == config.output.path == path.replace("~", "/home/me")


def test_bad_values_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    assert init(path, *FLAGS, "--set", "batch.size=0", "--set", "image.resampel=bicubic") == 2
    said = capsys.readouterr().err
    assert "--set batch.size=0: batch.size: 0 is not valid; it must be a whole number from 1 to 4096" in said
    assert "did you mean image.resample?" in said
    assert not path.exists()


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    assert init(path, *FLAGS) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert init(path, *FLAGS, "--force") == 0
    assert load_config(path).model.handle == "models/lite0"


def test_labels_are_found_from_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "configs").mkdir()
    assert init("configs/run.yaml", *FLAGS, "--labels", "labels.txt") == 0
    assert "\n  labels: ../labels.txt\n" in Path("configs/run.yaml").read_text()
    assert load_config("configs/run.yaml").model.labels == str(tmp_path / "labels.txt")


def test_the_model_tells_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    save_signature(model, lambda images: {"output": means(images) * 10.0})
    path = tmp_path / "run.yaml"
    arguments = ["--input", "photos/", "--model", str(model), "--inspect", "--set", "image.size=[16, 16]"]
    assert init(path, *arguments) == 0, capsys.readouterr().err
    config = load_config(path)
    assert config.model.handle == str(model)
    assert config.model.outputs == {"logits": "output"}
    assert config.image.size == (16, 16), "what is given wins"
    assert config.image.mean == (0.0, 0.0, 0.0), "as the printed config has it"
    assert config.output.path == "out/run"
