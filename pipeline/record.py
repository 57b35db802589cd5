"""`run.yaml`: what a run is pinned to, written before the first image and checked whenever the run goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.labels import load_labels
from pipeline.plan import Plan
from transforms.digests import hash_file
from transforms.masking import mask_values
from transforms.storage import Storage

NAME = "run.yaml"
FORMAT = 1

# What may change between a run and its resumption; all else decides rows or labels.
FREE = (
    "batch.", "runner.", "run.", "report.", "output.path", "model.handle", "model.sha256", "model.labels",
    "model.staging",
    "input.http.", "input.user_agent", "input.allow_private_hosts",
)  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """A run as its output remembers it.

    Attributes:
        output: the output, absolute or a URI.
        config: the resolved config.
        model: directory of the resolved model.
        pins: dotted name -> value of everything that decides rows or labels.
        plan: the plan.
        versions: software versions of the launcher, for the report.
    """

    output: str
    config: dict[str, Any]
    model: str
    pins: dict[str, Any]
    plan: Plan
    versions: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """sha256 over the pins, as every part's footer carries it."""
        return digest(self.pins)

    @property
    def model_fingerprint(self) -> str:
        """Digest of the model's files; empty where it is not pinned."""
        return str(self.pins.get("model files", ""))


def digest(value: Any) -> str:
    """sha256 of a JSON-able value, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def recorded(config: RunConfig) -> dict[str, Any]:
    """The resolved config as run.yaml has it: without the credentials of `input.path` and `model.handle`.

    Only planning and fetching the model need them, and by then both are done.

    So a list behind a signed URL may be signed anew between a run and its resumption.
    """
    values = config.resolved()
    return {
        **values,
        "input": {**values["input"], "path": mask_values(values["input"]["path"])},
        "model": {**values["model"], "handle": mask_values(values["model"]["handle"])},
    }


def make_pins(config: RunConfig, model_path: str, libraries: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides the rows and labels of a run, by dotted name.

    Args:
        config: the run's config.
        model_path: directory of the resolved model, whose files are hashed.
        libraries: versions of the libraries that decide pixels and scores.

    Raises:
        UsageError: the labels cannot be read.
    """
    pins = {name: value for name, value in _flatten(recorded(config)) if not name.startswith(FREE)}
    pins["model files"] = hash_folder(model_path)
    pins["label file"] = _hash_labels(config.model.labels) if config.model.labels else None
    pins.update({f"library {name}": version for name, version in libraries.items()})
    return pins


def _hash_labels(path: str) -> str:
    load_labels(path)  # what is wrong with them is better told before TensorFlow is started
    return hash_file(path)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each pin that differs, naming it and both values."""
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            if name in ("model files", "label file"):
                lines.append(f"{name}: their contents differ from the run's")
            else:
                lines.append(f"{name}: the run has {json.dumps(before)}, now it is {json.dumps(after)}")
    return lines


def hash_folder(path: str) -> str:
    """sha256 over the relative names and contents of all files below `path`, hexadecimal."""
    return digest([list(pair) for pair in hash_files(path)])


def hash_files(path: str) -> list[tuple[str, str]]:
    """Relative name and sha256 of each file below `path`, by name."""
    files = sorted(file for file in Path(path).rglob("*") if file.is_file())
    return [(file.relative_to(path).as_posix(), hash_file(os.fspath(file))) for file in files]


def save_record(storage: Storage, record: RunRecord) -> None:
    """Write run.yaml: from then on the plan is committed."""
    values = {"format": FORMAT, "fingerprint": record.fingerprint, **asdict(record), "plan": record.plan.to_dict()}
    text = "# What this run is pinned to. Written by hublabel; `hublabel run` checks it when it goes on.\n"
    storage.replace(NAME, (text + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).encode())


def load_record(storage: Storage, output: str) -> RunRecord | None:
    """The record of the run in this output, or None where there is none yet.

    Raises:
        UsageError: run.yaml is damaged or of another version of hublabel.
    """
    try:
        text = storage.read(NAME)
    except FileNotFoundError:
        return None
    place = f"{output}/{NAME}"
    try:
        values = yaml.safe_load(text)
        if values.pop("format") != FORMAT:
            raise UsageError(f"{place}: written by another version of hublabel; finish the run with that version")
        fingerprint = values.pop("fingerprint")
        record = RunRecord(**{**values, "plan": Plan.from_dict(values["plan"]), "output": output})
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{place}: damaged ({reason}); restore it, or choose another output.path") from None
    if record.fingerprint != fingerprint:
        raise UsageError(f"{place}: damaged (it was edited); restore it, or choose another output.path")
    return record
