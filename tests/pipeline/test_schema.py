from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline import cli
from pipeline.schema import schema, schema_text

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_shipped_schema_is_the_one_of_this_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert (CONFIGS / "schema.json").read_text() == schema_text(), "hublabel schema > configs/schema.json"
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_names_the_schema_and_keeps_it(path: Path) -> None:
    text = path.read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    jsonschema.validate(yaml.safe_load(text), schema())


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("image", "sise", [1, 1]), ("image", "geometry", "squash"), ("batch", "size", 0), ("output", "top_k", "five")],
)
def test_the_schema_refuses_what_a_run_refuses(section: str, key: str, value: Any) -> None:
    config = yaml.safe_load((CONFIGS / "quickstart.yaml").read_text())
    config[section][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, schema())
