"""`hublabel schema`: the JSON Schema of a config, for editors to complete and check it."""

from __future__ import annotations

import json
from typing import Any

from pipeline.config import RunConfig

SCHEMA_FILE = "schema.json"  # beside a config
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The JSON Schema of `RunConfig`, each key with its meaning and what it must be.

    Combinations of keys that do not go together, and paths that name nothing, are only told by `hublabel run`.
    """
    found = _worded(RunConfig.model_json_schema())
    return {"$schema": DIALECT, **found, "title": "A run of hublabel"}


def schema_text() -> str:
    """The schema as `configs/schema.json` has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _worded(node: Any) -> Any:
    """The node without pydantic's titles, and with what a key must be as part of its description."""
    if isinstance(node, list):
        return [_worded(item) for item in node]
    if not isinstance(node, dict):
        return node
    words = {key: value for key, value in node.items() if key != "must_be"}
    if isinstance(words.get("title"), str):
        del words["title"]
    if "must_be" in node:
        words["description"] = f"{node.get('description', '')} It must be {node['must_be']}.".strip()
    return {key: _worded(value) for key, value in words.items()}
