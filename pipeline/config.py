"""The config of a run: the closed, checked type `RunConfig`, made from a YAML file and overrides by `load_config`.

Imports pydantic and PyYAML only, so that the launcher's first line does not wait for heavier libraries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails

from pipeline.config_errors import Problem, explain, raise_problems
from pipeline.config_running import ReportSection, RunnerSection, RunSection
from pipeline.config_sections import (
    BatchSection,
    ImageSection,
    InputSection,
    ModelSection,
    OutputSection,
    Section,
    reason,
)
from pipeline.config_source import ConfigSource, read_source
from pipeline.runner_table import is_remote
from transforms.preprocessing import Preprocessing


class RunConfig(Section):
    """One run, complete: what to label, with which model, how, and where to.

    Raises:
        pydantic.ValidationError: a value or a combination of values is not allowed.
    """

    input: InputSection
    model: ModelSection
    image: ImageSection = ImageSection()
    batch: BatchSection = BatchSection()
    output: OutputSection
    run: RunSection = RunSection()
    report: ReportSection = ReportSection()
    runner: RunnerSection = RunnerSection()

    @model_validator(mode="after")
    def _check_combinations(self) -> RunConfig:
        conflicts = [*_model_conflicts(self), *_image_conflicts(self.image), *_run_conflicts(self)]
        if conflicts:
            raise ValidationError.from_exception_data("RunConfig", conflicts)
        return self

    def preprocessing(self) -> Preprocessing:
        """The image section as the workers take it."""
        height, width = self.image.size
        names = [field.name for field in fields(Preprocessing) if field.name not in ("height", "width")]
        return Preprocessing(height=height, width=width, **{name: getattr(self.image, name) for name in names})

    @property
    def first_library(self) -> str:
        """What a process that labels imports before anything else of its size: TensorFlow, unless it may do without."""
        if self.model.engine == "tensorflow" or self.preprocessing().needs_tensorflow:
            return "tensorflow"
        return self.model.engine

    def resolved(self) -> dict[str, Any]:
        """Every key that applies with its value, in plain types; `RunConfig.model_validate` takes it back unchanged."""
        values = self.model_dump(mode="json")
        if self.image.dtype == "uint8":
            for name in ("scale", "mean", "std"):
                del values["image"][name]
        if not self.model.classifies:
            del values["output"]["top_k"]
        return values


def _conflict(name: str, value: Any, message: str) -> InitErrorDetails:
    return InitErrorDetails(type=reason(message), loc=tuple(name.split(".")), input=value)


def _model_conflicts(config: RunConfig) -> list[InitErrorDetails]:
    model, output = config.model, config.output
    found: list[tuple[str, Any, str]] = []
    given = ", ".join(model.outputs)
    if model.activation != "none" and "probabilities" in model.outputs:
        found.append(("model.activation", model.activation, "the model gives probabilities itself; it must be none"))
    elif model.activation != "none" and "logits" not in model.outputs:
        found.append(("model.activation", model.activation, f"it needs logits, and model.outputs has only {given}"))
    if model.engine == "openvino" and model.precision == "float16":
        other = "with model.engine: openvino it must be float32, bfloat16 or int8"
        found.append(("model.precision", model.precision, other))
    if model.engine == "tensorflow" and model.precision == "int8":
        found.append(("model.precision", model.precision, "it needs model.engine: openvino"))
    if not model.classifies:
        needs = f"it needs logits or probabilities, and model.outputs has only {given}"
        if model.labels is not None:
            found.append(("model.labels", model.labels, needs))
        if model.label_offset:
            found.append(("model.label_offset", model.label_offset, needs))
        if "top_k" in output.model_fields_set:
            found.append(("output.top_k", output.top_k, needs))
        if not output.embedding:
            found.append(("output.embedding", False, "the model gives nothing else; it must be true"))
    for name in ("logits", "embedding"):
        if getattr(output, name) and name not in model.outputs:
            found.append((f"output.{name}", True, f"it needs model.outputs.{name}, and model.outputs has only {given}"))
    return [_conflict(*conflict) for conflict in found]


def _image_conflicts(image: ImageSection) -> list[InitErrorDetails]:
    found: list[tuple[str, Any, str]] = []
    if image.dtype == "uint8":
        for name in ("scale", "mean", "std"):
            if name in image.model_fields_set:
                value = getattr(image, name)
                found.append((f"image.{name}", value, "it has no effect with image.dtype: uint8; remove it"))
    if image.fraction != 1 and image.geometry in ("stretch", "pad"):
        message = f"it has no effect with image.geometry: {image.geometry}; use resize_crop or crop_resize"
        found.append(("image.fraction", image.fraction, message))
    return [_conflict(*conflict) for conflict in found]


def _run_conflicts(config: RunConfig) -> list[InitErrorDetails]:
    if config.run.planning == "runner" and not is_remote(config.runner.name):
        message = f"{config.runner.name} has no workers elsewhere; it must be auto or launcher"
        return [_conflict("run.planning", "runner", message)]
    return []


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, environ: Mapping[str, str] | None = None
) -> RunConfig:
    """Read a config file, apply `--set` overrides, expand paths and check everything.

    Args:
        path: the YAML file.
        overrides: `section.key=value` each, the value in YAML; later ones win.
        environ: the environment variables that paths may name; the process' own unless given.

    Raises:
        UsageError: with every problem in one message, a line each: file and line, key, value and what is allowed.
    """
    return checked(read_source(path, overrides), environ=environ)


def checked(source: ConfigSource, *, environ: Mapping[str, str] | None = None) -> RunConfig:
    """The config that `source` holds, its paths expanded; raises as `load_config`."""
    source = replace(source, values=dict(source.values))
    problems = source.expand_paths(os.environ if environ is None else environ)
    return _validated(source, problems)


def config_from_resolved(values: Mapping[str, Any], name: str) -> RunConfig:
    """The config that `RunConfig.resolved` gave, read back from `name`: nothing is expanded or made absolute again.

    Raises:
        UsageError: it is not a config of this version.
    """
    return _validated(ConfigSource(name, dict(values)), [])


def _validated(source: ConfigSource, problems: list[Problem]) -> RunConfig:
    values = source.with_sections(RunConfig.model_fields)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise_problems([*problems, *explain(error, RunConfig, values)], source.place)
    if problems:
        raise_problems(problems, source.place)
    return config
