"""Files that are no config, overrides that are none, paths that cannot be expanded: exact messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.config_source import parse_yaml
from pipeline.errors import UsageError

SECTIONS = {"input": "{path: photos}", "model": "{handle: models/m}", "output": "{path: out}"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message(text: str | bytes, *overrides: str) -> str:
    """The error of a config file `c.yaml` of this text."""
    Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load_config("c.yaml", overrides, environ={})
    assert caught.value.exit_code == 2
    return str(caught.value)


def config(**sections: str) -> str:
    """A smallest config with these sections, one a line: input, model and output are lines 1 to 3."""
    return "".join(f"{name}: {text}\n" for name, text in {**SECTIONS, **sections}.items())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("$NOPE/x", "the environment variable NOPE is not set (write $$ for a plain $)"),
        ("a${NO PE}", "the environment variable NO PE is not set (write $$ for a plain $)"),
        (
            "~nobody-of-that-name/x",
            "there is no home directory ~nobody-of-that-name (write ./~ for a file of that name)",
        ),
    ],
)
@pytest.mark.parametrize(("section", "key"), [("input", "path"), ("output", "path"), ("model", "handle")])
def test_what_cannot_be_expanded(section: str, key: str, value: str, said: str) -> None:
    line = 1 + list(SECTIONS).index(section)
    text = config(**{section: f"{{{key}: '{value}'}}"})
    assert message(text) == f"c.yaml, line {line}: {section}.{key}: {value!r} is not valid: {said}"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("x", "write it as --set KEY=VALUE, such as --set input.limit=100"),
        ("=3", "write it as --set KEY=VALUE, such as --set input.limit=100"),
        ("image..size=3", "write it as --set KEY=VALUE, such as --set input.limit=100"),
        ("image.size=[1", "the value is not valid YAML: did not find expected ',' or ']'"),
        (
            "image.size=!!python/object:os.system x",
            "the value is not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("image.size.0=3", "image.size is [1, 2], which has no keys; give image.size as a whole"),
        ("image.size=3", "image.size: 3 is not valid; it must be [height, width], two whole numbers from 1 to 4096"),
        (
            "run=3",
            "run: 3 is not valid; "
            "it must be a mapping with the keys shard_size, planning, max_failed, timeout, decode_threads",
        ),
        ("image.sise=3", "image.sise: unknown key; did you mean image.size?"),
        ("batch.size.x=3", "batch.size: {x: 3} is not valid; it must be a whole number from 1 to 4096"),
        ("input.path=", "input.path: null is not valid; it must be a path, a glob or a URI, or a list of these"),
    ],
)
def test_overrides(override: str, said: str) -> None:
    assert message(config(image="{size: [1, 2]}"), override) == f"--set {override}: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", ": the file is empty; it must have keys: input, model, ..."),
        (b"# nothing\n", ": the file is empty; it must have keys: input, model, ..."),
        (b"[1, 2]", ": [1, 2] is not a config; it must have keys: input, model, ..."),
        (b"photos", ": 'photos' is not a config; it must have keys: input, model, ..."),
        (b"a: [1\nb: 2\n", ", line 2, column 2: not valid YAML: did not find expected ',' or ']'"),
        (
            b"image:\n\tsize: 3\n",
            ", line 2, column 1: not valid YAML: found character that cannot start any token "
            "(YAML is indented with spaces, not tabs)",
        ),
        (
            b"batch: {size: 3}\nrun: {}\nbatch: {size: 4}\n",
            ", line 3, column 1: not valid YAML: the key batch is given twice, first in line 1",
        ),
        (
            b"image:\n  std: x\n  std: x\n",
            ", line 3, column 3: not valid YAML: the key std is given twice, first in line 2",
        ),
        (b"a: 1\n---\nb: 2\n", ", line 2, column 1: not valid YAML: but found another document"),
        (b"a: *b\n", ", line 1, column 4: not valid YAML: found undefined alias"),
        (
            b"a: !!python/object/apply:os.system [touch owned]\n",
            ", line 1, column 4: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        (b"a: !!bool maybe\n", ": not valid YAML: a value does not fit its tag"),
        (b"a: " + 100_000 * b"[", ": not valid YAML: nested more than 20 levels deep"),
        (b"a: \xff\n", ": not UTF-8 text (byte 3); a config is a YAML file in UTF-8"),
    ],
)
def test_files_that_are_no_config(text: bytes, said: str) -> None:
    assert message(text) == f"c.yaml{said}"
    assert not Path("owned").exists()


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path, reason in (("none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: the config cannot be read: {reason}"


def test_merged_keys_may_be_overridden() -> None:
    Path("c.yaml").write_text(config(image="&a {size: [1, 2], exif: false}", run="{<<: *a, size: 3}"))
    assert "run.size: unknown key" in message(Path("c.yaml").read_bytes())
    base = "input: &a {path: p, limit: 3}\noutput: {path: o}\nmodel: {handle: m}\n"
    Path("c.yaml").write_text(base.replace("{path: o}", "{path: o, logits: true, <<: {logits: false}}"))
    assert load_config("c.yaml", ["output.logits=false"]).input.limit == 3


def test_an_endless_value_has_a_short_message() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert len(message(bomb + config(image="{size: *a39}", input="{path: &p [*p]}"))) < 20_000


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:,-[]{}&*!|>'\"%@#?\n\t \x00~.0e", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_value_or_a_message(text: str) -> None:
    said = "c.yaml: a value"
    try:
        parse_yaml(text, "c.yaml")
    except UsageError as error:
        said = str(error)
    assert said.startswith("c.yaml")
    assert len(said.splitlines()) == 1
