"""Where a config comes from: a YAML file read safely, `--set` overrides, environment variables in paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.config_errors import KeyPath, Problem, shown, shown_key
from pipeline.errors import UsageError

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

# Keys whose values are paths or URIs: `~` and environment variables are expanded in them.
PATH_KEYS = (("input", "path"), ("output", "path"), ("model", "handle"), ("model", "staging"), ("model", "labels"))

# Levels of a YAML document; the config has four.
MAX_DEPTH = 20

_BOOL = "tag:yaml.org,2002:bool"
_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"
_VARIABLE = re.compile(r"\$(?:\$|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[^}]*)\})")


class _Loader(_SafeLoader):
    """Safe YAML without the surprises of YAML 1.1: 2024-01-01, no and on are text here, and 1e-3 is a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own manner)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _TIMESTAMP)]
        for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass
class ConfigSource:
    """The values of a config before they are checked, and where each was given.

    Attributes:
        name: the file, as the user named it.
        values: its mapping, overrides applied.
        node: its YAML tree, for line numbers.
        overrides: the text of each `--set`, by the path of its key.
    """

    name: str
    values: dict[str, Any]
    node: yaml.Node | None = None
    overrides: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """The override or the file and line that gave the key at `path`, or the section that lacks it."""
        override = self._override(path)
        if override:
            return f"--set {override}"
        line, node = 0, self.node
        for name in path:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            found = [(key, value) for key, value in pairs if key.value == name]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        return f"{self.name}, line {line}" if line else self.name

    def _override(self, path: KeyPath) -> str | None:
        """The text of the last override that gave the value at `path`, whole or in part."""
        for given, text in reversed(self.overrides.items()):
            shorter = min(len(given), len(path))
            if path and given[:shorter] == path[:shorter]:
                return text
        return None

    def with_sections(self, names: Iterable[str]) -> dict[str, Any]:
        """The values, sections left out or left empty as empty mappings, so that what is missing is a key."""
        empty: dict[str, Any] = {name: {} for name in names if self.values.get(name) is None}
        return {**self.values, **empty}

    def expand_paths(self, environ: Mapping[str, str]) -> list[Problem]:
        """Expand `~` and variables in paths and make `model.labels` absolute; what cannot be expanded is returned."""
        problems = []
        for section, name in PATH_KEYS:
            values = self.values.get(section)
            if not isinstance(values, dict) or name not in values:
                continue
            try:
                expanded = _expanded(values[name], environ)
                if (section, name) == ("model", "labels"):
                    expanded = self._labels(expanded)
            except ValueError as error:
                problems.append(Problem((section, name), f"{shown(values[name])} is not valid: {error}"))
            else:
                self.values[section] = {**values, name: expanded}
        return problems

    def _labels(self, labels: Any) -> Any:
        """Labels are relative to the config file; those of an override to the working directory, as typed there."""
        if not isinstance(labels, str) or not labels.strip() or "://" in labels:
            return labels
        base = Path() if self._override(("model", "labels")) else Path(self.name).parent
        return os.path.abspath(base / labels)


def _expanded(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        # Lists in lists are refused later; an alias could make them endless.
        return [_expanded(item, environ) if isinstance(item, str) else item for item in value]
    if not isinstance(value, str):
        return value
    # First `~`, so that one inside a variable's value stays what it is, as in a shell.
    home = os.path.expanduser(value)
    if value.startswith("~") and home == value:
        raise ValueError(f"there is no home directory {value.split('/')[0]} (write ./~ for a file of that name)")

    def variable(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match["plain"] or match["braced"]
        if name not in environ:
            raise ValueError(f"the environment variable {name} is not set (write $$ for a plain $)")
        return environ[name]

    return _VARIABLE.sub(variable, home)


def read_source(path: str | Path, overrides: Sequence[str]) -> ConfigSource:
    """Read a YAML file and apply `KEY=VALUE` overrides to it.

    Raises:
        UsageError: the file cannot be read or is not one YAML mapping; an override has no key or no YAML value.
    """
    name = str(path)
    values, node = parse_yaml(_read_text(path, name), name)
    if values is None:
        raise UsageError(f"{name}: the file is empty; it must have keys: input, model, ...")
    if not isinstance(values, dict):
        raise UsageError(f"{name}: {shown(values)} is not a config; it must have keys: input, model, ...")
    source = ConfigSource(name, values, node)
    for override in overrides:
        apply_override(override, source)
    return source


def _read_text(path: str | Path, name: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text (byte {error.start}); a config is a YAML file in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{name}: the config cannot be read: {reason}") from None


def parse_yaml(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """The value of one YAML document and its tree. No tag of it can run code; a key given twice is an error.

    Raises:
        UsageError: it is not YAML, with line and column in `name`.
    """
    loader = _Loader(text)
    try:
        _refuse_depth(text, name)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _refuse_doubles(node, set())
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # PyYAML explains a tag or a token over several lines; the first says what it is.
        problem = (error.problem or error.context or "unreadable").splitlines()[0]
        if mark and _is_tab(text, mark):
            problem += " (YAML is indented with spaces, not tabs)"
        raise UsageError(f"{name}{place}: not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    except (ValueError, LookupError, AttributeError):
        # PyYAML's constructors leave a tag that its value does not fit, as in `!!bool maybe`, to chance.
        raise UsageError(f"{name}: not valid YAML: a value does not fit its tag") from None
    finally:
        loader.dispose()


def _is_tab(text: str, mark: yaml.Mark) -> bool:
    lines = text.split("\n")
    return mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t"


def _refuse_depth(text: str, name: str) -> None:
    """libyaml's composer recurses: 100,000 brackets would end the process; its events come one after another."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{name}: not valid YAML: nested more than {MAX_DEPTH} levels deep")


def _refuse_doubles(node: yaml.Node, seen: set[int]) -> None:
    """YAML forbids a key to stand twice in a mapping; PyYAML would take the last and say nothing."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in lines:
                problem = f"the key {shown_key(key.value)} is given twice, first in line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        _refuse_doubles(value, seen)


def apply_override(override: str, source: ConfigSource) -> None:
    """Put one `KEY=VALUE` into the values.

    Raises:
        UsageError: it has no key or no YAML value.
    """
    dotted, equals, text = override.partition("=")
    path = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {override}: write it as --set KEY=VALUE, such as --set input.limit=100")
    value = _override_value(path, text.strip(), override)
    values = source.values
    for depth, part in enumerate(path[:-1], start=1):
        inner = values.get(part)
        if inner is not None and not isinstance(inner, dict):
            whole = ".".join(path[:depth])
            raise UsageError(f"--set {override}: {whole} is {shown(inner)}, which has no keys; give {whole} as a whole")
        # A copy: an alias in the file may share the mapping with another key.
        values[part] = dict(inner or {})
        values = values[part]
    values[path[-1]] = value
    source.overrides.pop(path, None)
    source.overrides[path] = override


def _override_value(path: KeyPath, text: str, override: str) -> Any:
    # A folder may be called 2024, a glob *.jpg, home ~: not a number, an alias and null, as YAML has it.
    if path in PATH_KEYS and text not in ("", "null") and text[0] not in "['\"":
        return text
    try:
        return parse_yaml(text, "")[0]
    except UsageError as error:
        raise UsageError(f"--set {override}: the value is {str(error).partition(': ')[2]}") from None
