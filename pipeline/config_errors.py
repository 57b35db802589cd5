"""What is wrong with a config, in words: one line a problem, with its place, key, value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.errors import UsageError
from transforms.masking import mask_credentials

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong (`message`, for people) with the key at `path` (section by section)."""

    path: KeyPath
    message: str


def raise_problems(problems: list[Problem], place: Callable[[KeyPath], str]) -> NoReturn:
    """Raise one UsageError with a line for each problem; `place` says where a key was given."""
    lines = [f"{place(problem.path)}: {'.'.join(problem.path)}: {problem.message}" for problem in problems]
    raise UsageError("\n".join(lines)) from None


def shown(value: Any, depth: int = 2) -> str:
    """A value much as YAML writes it, bounded: with aliases a small file can hold an endless one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        items = [f"{shown_key(name)}: {shown(value[name], depth - 1)}" for name in list(value)[:6]] if depth else []
    elif isinstance(value, (list, tuple)):
        items = [shown(item, depth - 1) for item in value[:6]] if depth else []
    else:
        value = mask_credentials(value) if isinstance(value, str) else value  # before it is cut
        text = repr(value[:100]) if isinstance(value, (str, bytes)) else format(value)
        return text if len(text) <= 80 else text[:77] + "..."
    if len(items) < len(value):
        items.append("...")
    return f"{{{', '.join(items)}}}" if isinstance(value, dict) else f"[{', '.join(items)}]"


def shown_key(name: Any) -> str:
    """A key of a mapping, bounded and on one line."""
    text = mask_credentials(name if isinstance(name, str) and name.isprintable() else repr(name))
    return text if len(text) <= 80 else text[:77] + "..."


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section of keys, or None for a key."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def keys_of(model: type[BaseModel], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every key of a config model, section by section, with its field."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield (*prefix, name), field
        else:
            yield from keys_of(section, (*prefix, name))


def must_be(field: FieldInfo) -> str:
    """What a key's value may be, as completes "it must be ..."."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["must_be"])


def explain(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> list[Problem]:
    """The problems of a failed validation of `values`, one a key, in the order of the keys."""
    problems: dict[KeyPath, Problem] = {}
    for detail in error.errors(include_url=False, include_context=False):
        loc = tuple(str(part) for part in detail["loc"])
        path, section, field = _locate(loc, model)
        value = _value_at(values, path, detail["input"])
        if detail["type"] == "extra_forbidden" and field is None:
            message = _unknown_key(path, section, model)
        elif detail["type"] == "missing" and path == loc:  # not an item of a list
            message = f"missing; it must be {_allowed(section, field)}"
        elif detail["type"] == "reason":
            message = f"{shown(value)} is not valid: {detail['msg']}"
        elif detail["type"] == "invalid_key":
            message = f"{shown(detail['input'])} is not a key; a key is a word"
        else:
            message = f"{shown(value)} is not valid; it must be {_allowed(section, field)}"
        problems.setdefault(path, Problem(path, message))
    return list(problems.values())


def _locate(loc: KeyPath, model: type[BaseModel]) -> tuple[KeyPath, type[BaseModel], FieldInfo | None]:
    """The path, section and field of the key that pydantic's `loc` lies in; no field: a section, or an unknown key."""
    section = model
    for position, name in enumerate(loc):
        field = section.model_fields.get(name)
        inner = section_of(field) if field else None
        if inner is None:
            return (*loc[:position], shown_key(name)), section, field
        section = inner
    return loc, section, None


def _value_at(values: Any, path: KeyPath, otherwise: Any) -> Any:
    for name in path:
        if not isinstance(values, Mapping) or name not in values:
            return otherwise
        values = values[name]
    return values


def _allowed(section: type[BaseModel], field: FieldInfo | None) -> str:
    if field is None:
        keys = ", ".join(section.model_fields)
        return f"a mapping with the {'keys' if len(section.model_fields) > 1 else 'key'} {keys}"
    return must_be(field)


def _unknown_key(path: KeyPath, section: type[BaseModel], model: type[BaseModel]) -> str:
    name = path[-1]
    here = {key: ".".join((*path[:-1], key)) for key in section.model_fields}
    # The right word in the wrong section, or `batch_size` for `batch.size`.
    elsewhere = {key[-1]: ".".join(key) for key, _ in reversed(list(keys_of(model)))}
    elsewhere |= {".".join(key): ".".join(key) for key, _ in keys_of(model)}
    for names, cutoff in ((here, 0.75), (elsewhere, 0.75), (here, 0.6)):
        near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
        if near:
            return f"unknown key; did you mean {names[near[0]]}?"
    return f"unknown key; the keys here are {', '.join(section.model_fields)}"
