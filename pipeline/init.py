"""`hublabel init`: a commented config, every key of it, from flags and from the model itself."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from pipeline.config import RunConfig, checked
from pipeline.config_sections import Section
from pipeline.config_source import ConfigSource, apply_override, parse_yaml
from pipeline.errors import UsageError
from pipeline.schema import SCHEMA_FILE

WIDTH = 100  # of a line of comment
HEADER = """# Label {input} with {model}.
#
#   hublabel check {name}
#   hublabel run {name}
#
# A key that is commented out has the value that stands there. How the model was trained decides what is right under
# `image`: wrong values cost accuracy in silence, and `hublabel check {name} --truth FILE` measures them.
"""


def init_command(
    path: str, inputs: Sequence[str], overrides: Sequence[str], labels: str | None, look: bool, force: bool
) -> int:
    """Write a config to `path`; returns the exit code.

    Args:
        path: the file, or `-` for standard output.
        inputs: `input.path`, one or more.
        overrides: `KEY=VALUE` each, `model.handle` and `output.path` among them.
        labels: `model.labels`, relative to the working directory.
        look: load the model and take from it what it tells.
        force: replace a file that is there.

    Raises:
        UsageError: a value is not allowed, or the file is there already.
    """
    if path != "-" and os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already; --force replaces it")
    source = ConfigSource(path, {"input": {"path": inputs[0] if len(inputs) == 1 else list(inputs)}})
    for override in overrides:
        apply_override(override, source)
    if labels is not None:
        source.values.setdefault("model", {})["labels"] = _beside(labels, path)
    if look:
        source.values = _merged(_told_by_the_model(source.values["model"]["handle"], path), source.values)
    checked(source)
    text = config_text(source.values, path)
    if path == "-":
        print(text, end="")
    else:
        Path(path).write_text(text, encoding="utf-8")
        print(f"wrote {path}; next: hublabel check {path}")
    return 0


def config_text(values: Mapping[str, Any], path: str) -> str:
    """A config with every key: those of `values` as they are there, the others commented out with their defaults.

    Args:
        values: by section, as `RunConfig` takes them.
        path: the file that it is for.
    """
    given = values["input"]["path"]
    name = "CONFIG.yaml" if path == "-" else path
    what = {"input": given if isinstance(given, str) else ", ".join(given), "model": values["model"]["handle"]}
    schema = Path(path).parent / SCHEMA_FILE
    lines = [f"# yaml-language-server: $schema={SCHEMA_FILE}"] if path != "-" and schema.exists() else []
    lines += HEADER.format(name=name, **{key: " ".join(text.split()) for key, text in what.items()}).splitlines()
    for section, field in RunConfig.model_fields.items():
        lines += ["", f"{section}:", *_keys(_section_of(field), values.get(section) or {}, "  ", "")]
    return "\n".join(lines) + "\n"


def _keys(section: type[Section], given: Mapping[str, Any], indent: str, mark: str) -> Iterator[str]:
    """Lines of a section's keys; `mark` comments out what has a default."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            values = given.get(name) or {}
            yield f"{indent}{mark if values else '# '}{name}:"
            yield from _keys(inner, values, indent if not values else indent + "  ", "" if values else "#   ")
            continue
        if not mark:
            yield from textwrap.wrap(
                field.description or "", WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        if name in given:
            yield f"{indent}{name}: {_scalar(given[name])}"
        else:
            yield f"{indent}{mark or '# '}{name}: {_scalar(field.get_default())}"


def _section_of(field: FieldInfo) -> type[Section]:
    section = field.annotation
    assert isinstance(section, type)
    assert issubclass(section, Section)
    return section


def _scalar(value: Any) -> str:
    """`value` in YAML, on one line, as our own reader takes it back."""
    plain = list(value) if isinstance(value, tuple) else value
    options: dict[str, Any] = {"width": float("inf"), "allow_unicode": True, "default_flow_style": True}
    text = yaml.safe_dump(plain, **options).removesuffix("...\n").strip()
    if parse_yaml(text, "")[0] == plain:
        return text
    return yaml.safe_dump(plain, default_style='"', **options).strip()  # such as the path 1e-3


def _beside(labels: str, path: str) -> str:
    """A path from the working directory as one from the folder of the config."""
    if path == "-" or os.path.isabs(labels) or labels.startswith(("~", "$")):
        return labels
    return os.path.relpath(labels, Path(path).parent)


def _told_by_the_model(handle: str, path: str) -> dict[str, Any]:
    """What `hublabel inspect` would print as a config, but for paths."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pipeline.console import plain_console
    from pipeline.inspection.command import inspect
    from pipeline.resolve import resolve_model

    inspection = inspect(handle, resolve_model(handle, console=plain_console(stderr=True)))
    if inspection.config is None:
        raise UsageError(f"model.handle: {handle}: hublabel cannot label with it; see hublabel inspect {handle}")
    values = parse_yaml(inspection.config, handle)[0]
    labels = values["model"].pop("labels", None)
    shipped = Path(__file__).resolve().parents[1] / "configs" / str(labels)
    if labels is not None and shipped.is_file():
        values["model"]["labels"] = _beside(os.path.relpath(shipped), path)
    return values


def _merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; `then` wins."""
    names = dict.fromkeys([*first, *then])
    return {name: {**(first.get(name) or {}), **(then.get(name) or {})} for name in names}
