"""What a user reads when a config is wrong: exact messages, and that no input ends in anything but a message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pipeline.config import RunConfig, load_config
from pipeline.config_errors import section_of, shown
from pipeline.errors import UsageError

ROOT = Path(__file__).parents[2]
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


MAX_INT = "a whole number from 1 to 2147483647"
OUTPUTS = "a mapping from logits, probabilities or embedding (one or more) to the module's name of that output"
TRIPLE = "a list of three numbers, red, green, blue, from"
LABELS = "the path of a local text file with one label a line, or null"
COLUMNS = "a list of names of input columns, each once, none of them a column of the output"
AGENT = "printable ASCII, with no space at either end"
HTTP = "a mapping with the keys connect_timeout, read_timeout, retries, max_redirects, per_host"
OPTIONS = "a mapping from names of Beam pipeline options to a value or a list of values"
RUNNERS = "one of DirectRunner, FlinkRunner, DataflowRunner, PortableRunner, PrismRunner"
VALUES = [
    ("input", "path", "[]", "[]", "a path, a glob or a URI, or a list of these"),
    ("input", "path", "[a, 3]", "['a', 3]", "a path, a glob or a URI, or a list of these"),
    ("input", "path", "2024", "2024", "a path, a glob or a URI, or a list of these"),
    ("input", "path", "' '", "' '", "a path, a glob or a URI, or a list of these"),
    ("input", "path", '"a\\0b"', "'a\\x00b'", "a path, a glob or a URI, or a list of these"),
    ("input", "uri_column", "null", "null", "the name of a column"),
    ("input", "columns", "label", "'label'", COLUMNS),
    ("input", "on_bad_line", "skip", "'skip'", "one of fail, row"),
    ("input", "limit", "0", "0", "a whole number from 1, or null for all"),
    ("input", "limit", "1.5", "1.5", "a whole number from 1, or null for all"),
    ("input", "limit", "true", "true", "a whole number from 1, or null for all"),
    ("input", "allow_private_hosts", "1", "1", "true or false"),
    ("input", "user_agent", "café", "'café'", AGENT),
    ("input", "user_agent", '"a\\r\\nCookie: b"', "'a\\r\\nCookie: b'", AGENT),
    ("input", "http", "3", "3", HTTP),
    (
        "model",
        "handle",
        "''",
        "''",
        "a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle",
    ),
    ("model", "sha256", "abc", "'abc'", "64 hexadecimal digits, or null"),
    ("model", "staging", "''", "''", "a gs:// or s3:// URI, a path, or null"),
    ("model", "engine", "onnx", "'onnx'", "one of tensorflow, openvino"),
    ("model", "precision", "int4", "'int4'", "one of float32, bfloat16, float16, int8"),
    ("model", "signature", "''", "''", "the name of a signature, or null"),
    ("model", "input", "3", "3", "the name of an input, or null"),
    ("model", "outputs", "{}", "{}", OUTPUTS),
    ("model", "outputs", "output", "'output'", OUTPUTS),
    ("model", "outputs", "{logit: output}", "{logit: 'output'}", OUTPUTS),
    ("model", "outputs", "{logits: null}", "{logits: null}", OUTPUTS),
    ("model", "activation", "Softmax", "'Softmax'", "one of softmax, sigmoid, none"),
    ("model", "labels", "gs://b/l.txt", "'gs://b/l.txt'", LABELS),
    ("model", "labels", "[a]", "['a']", LABELS),
    ("model", "label_offset", "-1", "-1", "a whole number from 0 to 1000"),
    ("model", "label_offset", "1001", "1001", "a whole number from 0 to 1000"),
    ("image", "size", "224", "224", "[height, width], two whole numbers from 1 to 4096"),
    ("image", "size", "[224]", "[224]", "[height, width], two whole numbers from 1 to 4096"),
    ("image", "size", "[0, 224]", "[0, 224]", "[height, width], two whole numbers from 1 to 4096"),
    ("image", "size", "[224, 4097]", "[224, 4097]", "[height, width], two whole numbers from 1 to 4096"),
    ("image", "size", "[224.0, 1]", "[224.0, 1]", "[height, width], two whole numbers from 1 to 4096"),
    ("image", "dtype", "float16", "'float16'", "one of float32, uint8"),
    ("image", "channels", "RGB", "'RGB'", "one of rgb, bgr"),
    ("image", "geometry", "crop", "'crop'", "one of stretch, resize_crop, crop_resize, pad"),
    ("image", "fraction", "0", "0", "a number above 0 and up to 1"),
    ("image", "fraction", "87.5", "87.5", "a number above 0 and up to 1"),
    ("image", "fraction", ".nan", "nan", "a number above 0 and up to 1"),
    ("image", "fraction", "'1'", "'1'", "a number above 0 and up to 1"),
    ("image", "resample", "nearest", "'nearest'", "one of bilinear, bicubic"),
    ("image", "antialias", "yes", "'yes'", "true or false"),
    ("image", "antialias", "1", "1", "true or false"),
    ("image", "scale", "0", "0", "a number from 0.000001 to 1000000"),
    ("image", "scale", ".inf", "inf", "a number from 0.000001 to 1000000"),
    ("image", "scale", "1e-300", "1e-300", "a number from 0.000001 to 1000000"),
    ("image", "scale", "true", "true", "a number from 0.000001 to 1000000"),
    ("image", "mean", "[1, 2]", "[1, 2]", f"{TRIPLE} -1000000 to 1000000"),
    ("image", "mean", "[1, 2, -.inf]", "[1, 2, -inf]", f"{TRIPLE} -1000000 to 1000000"),
    ("image", "std", "[1, 0, 1]", "[1, 0, 1]", f"{TRIPLE} 0.000001 to 1000000"),
    ("image", "std", "1", "1", f"{TRIPLE} 0.000001 to 1000000"),
    ("image", "transpose", "null", "null", "true or false"),
    ("image", "exif", "[]", "[]", "true or false"),
    ("image", "background", "[0, 0, 256]", "[0, 0, 256]", "[red, green, blue], three whole numbers from 0 to 255"),
    ("image", "max_bytes", "0", "0", MAX_INT),
    ("image", "max_pixels", "1e8", "100000000.0", MAX_INT),
    ("image", "allow_truncated", "yes", "'yes'", "true or false"),
    ("image", "decoder", "tensorflow", "'tensorflow'", "one of auto, tensorflow-io"),
    ("batch", "size", "0", "0", "a whole number from 1 to 4096"),
    ("batch", "size", "4097", "4097", "a whole number from 1 to 4096"),
    ("output", "path", "https://x/y", "'https://x/y'", "the path or URI of a directory that can be written to"),
    ("output", "path", "[a]", "['a']", "the path or URI of a directory that can be written to"),
    ("output", "top_k", "0", "0", "a whole number from 1 to 1000"),
    ("output", "top_k", "1001", "1001", "a whole number from 1 to 1000"),
    ("output", "logits", "3", "3", "true or false"),
    ("output", "embedding", "a", "'a'", "true or false"),
    ("output", "uri", "none", "'none'", "one of as_given, stripped"),
    ("run", "shard_size", "0", "0", "auto or a whole number from 1 to 1000000"),
    ("run", "shard_size", "Auto", "'Auto'", "auto or a whole number from 1 to 1000000"),
    ("run", "planning", "workers", "'workers'", "one of auto, launcher, runner"),
    ("run", "max_failed", "3", "3", "a mapping with the keys fraction, at_least"),
    ("run", "timeout", "3", "3", "a mapping with the keys read, decode"),
    ("run", "decode_threads", "0", "0", "a whole number from 1 to 1024, or null for one a processor"),
    ("report", "html", "yes please", "'yes please'", "true or false"),
    ("report", "thumbnails", "401", "401", "a whole number from 0 to 400"),
    ("report", "remote_thumbnails", "1", "1", "true or false"),
    ("report", "thumbnail_seconds", "0", "0", "a number of seconds from 0.1 to 3600"),
    ("runner", "name", "SparkRunner", "'SparkRunner'", RUNNERS),
    ("runner", "name", "directrunner", "'directrunner'", RUNNERS),
    ("runner", "options", "{a: {b: 1}}", "{a: {b: 1}}", OPTIONS),
    ("runner", "options", "[a]", "['a']", OPTIONS),
]


@pytest.mark.parametrize(("section", "key", "value", "said", "allowed"), VALUES)
def test_a_value_out_of_range(section: str, key: str, value: str, said: str, allowed: str) -> None:
    required = {"input": "path", "model": "handle", "output": "path"}.get(section, key)
    start = "" if required == key else f"{required}: x, "
    text = config(**{section: f"{{{start}{key}: {value}}}"})
    line = 1 + list({**SECTIONS, section: ""}).index(section)
    assert message(text) == f"c.yaml, line {line}: {section}.{key}: {said} is not valid; it must be {allowed}"


def test_every_key_has_a_value_that_is_refused() -> None:
    sections = {name: section_of(field) for name, field in RunConfig.model_fields.items()}
    keys = {(name, key) for name, section in sections.items() if section for key in section.model_fields}
    assert {(section, key) for section, key, *_ in VALUES} == keys


EMBEDDING = "{handle: m, outputs: {embedding: e}"
COMBINATIONS = [
    (
        {"input": "{path: p, columns: [name, Label, URI]}"},
        "line 1: input.columns: ['name', 'Label', 'URI'] is not valid: "
        "Label, URI: the output has a column of that name itself",
    ),
    (
        {"input": "{path: p, columns: ['{a}', b, '{A}']}"},
        "line 1: input.columns: ['{a}', 'b', '{A}'] is not valid: {a}, {A}: a column can be carried once",
    ),
    (
        {"input": "{path: p, columns: [a, _Hublabel_source]}"},
        "line 1: input.columns: ['a', '_Hublabel_source'] is not valid: "
        "_hublabel_source: names that begin with _hublabel_ are kept for the plan",
    ),
    (
        {"model": "{handle: m, outputs: {logits: a, embedding: a}}"},
        "line 2: model.outputs: {logits: 'a', embedding: 'a'} is not valid: "
        "one output of the module can be only one of these",
    ),
    (
        {"model": "{handle: m, outputs: {probabilities: p}, activation: softmax}"},
        "line 2: model.activation: 'softmax' is not valid: the model gives probabilities itself; it must be none",
    ),
    (
        {"model": EMBEDDING + ", activation: sigmoid}", "output": "{path: o, embedding: true}"},
        "line 2: model.activation: 'sigmoid' is not valid: it needs logits, and model.outputs has only embedding",
    ),
    (
        {"model": EMBEDDING + ", labels: /l}", "output": "{path: o, embedding: true}"},
        "line 2: model.labels: '/l' is not valid: "
        "it needs logits or probabilities, and model.outputs has only embedding",
    ),
    (
        {"model": EMBEDDING + ", label_offset: 1}", "output": "{path: o, embedding: true}"},
        "line 2: model.label_offset: 1 is not valid: "
        "it needs logits or probabilities, and model.outputs has only embedding",
    ),
    (
        {"model": EMBEDDING + "}", "output": "{path: o, embedding: true, top_k: 5}"},
        "line 3: output.top_k: 5 is not valid: it needs logits or probabilities, and model.outputs has only embedding",
    ),
    (
        {"model": EMBEDDING + "}"},
        "line 3: output.embedding: false is not valid: the model gives nothing else; it must be true",
    ),
    (
        {"output": "{path: o, embedding: true}"},
        "line 3: output.embedding: true is not valid: it needs model.outputs.embedding, "
        "and model.outputs has only logits",
    ),
    (
        {"model": "{handle: m, outputs: {probabilities: p}}", "output": "{path: o, logits: true}"},
        "line 3: output.logits: true is not valid: it needs model.outputs.logits, "
        "and model.outputs has only probabilities",
    ),
    (
        {"image": "{dtype: uint8, mean: [0, 0, 0]}"},
        "line 4: image.mean: [0, 0, 0] is not valid: it has no effect with image.dtype: uint8; remove it",
    ),
    (
        {"image": "{fraction: 0.875}"},
        "line 4: image.fraction: 0.875 is not valid: it has no effect with image.geometry: stretch; "
        "use resize_crop or crop_resize",
    ),
    (
        {"image": "{fraction: 0.875, geometry: pad}"},
        "line 4: image.fraction: 0.875 is not valid: it has no effect with image.geometry: pad; "
        "use resize_crop or crop_resize",
    ),
    (
        {"run": "{planning: runner}"},
        "line 4: run.planning: 'runner' is not valid: DirectRunner has no workers elsewhere; "
        "it must be auto or launcher",
    ),
]


@pytest.mark.parametrize(("sections", "said"), COMBINATIONS)
def test_values_that_do_not_go_together(sections: dict[str, str], said: str) -> None:
    assert message(config(**sections)) == f"c.yaml, {said}"


def test_uint8_names_each_value_that_has_no_effect() -> None:
    text = config(image="{dtype: uint8, scale: 255, mean: [0, 0, 0], std: [1, 1, 1]}")
    names = [line.split(": ")[1] for line in message(text).splitlines()]
    assert names == ["image.scale", "image.mean", "image.std"]


def test_options_that_lose_or_hang_data_are_refused() -> None:
    options = "{direct_running_mode: multi_threading, environment_type: 'beam:env:embedded_python_grpc:v1'}"
    said = message(config(runner=f"{{name: PortableRunner, options: {options}}}"))
    assert said.endswith(
        "direct_running_mode: 'multi_threading' loses elements silently with Beam 2.77; it must be in_memory, which "
        "runs direct_num_workers bundles at a time; environment_type: 'beam:env:embedded_python_grpc:v1' loses "
        "elements silently with Beam 2.77; it must be LOOPBACK, EXTERNAL, PROCESS or DOCKER"
    )


def test_combinations_are_refused_without_a_file_too() -> None:
    values = {"input": {"path": "p"}, "model": {"handle": "m"}, "output": {"path": "o", "embedding": True}}
    with pytest.raises(ValidationError, match=r"output.embedding\n +it needs model.outputs.embedding"):
        RunConfig.model_validate(values)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"image": "{fracton: 1}"}, "line 4: image.fracton: unknown key; did you mean image.fraction?"),
        ({"imge": "{}"}, "line 4: imge: unknown key; did you mean image?"),
        ({"batch_size": "3"}, "line 4: batch_size: unknown key; did you mean batch.size?"),
        ({"top_k": "3"}, "line 4: top_k: unknown key; did you mean output.top_k?"),
        ({"output": "{path: o, labels: x}"}, "line 3: output.labels: unknown key; did you mean model.labels?"),
        (
            {"run": "{max_failed: {at_leest: 1}}"},
            "line 4: run.max_failed.at_leest: unknown key; did you mean run.max_failed.at_least?",
        ),
        ({"batch": "{qqqqq: 1}"}, "line 4: batch.qqqqq: unknown key; the keys here are size"),
        (
            {"zzzzz": "1"},
            "line 4: zzzzz: unknown key; the keys here are input, model, image, batch, output, run, report, runner",
        ),
        ({"batch": "{3: 1}"}, "line 4: batch.3: 3 is not a key; a key is a word"),
        ({"batch": "3"}, "line 4: batch: 3 is not valid; it must be a mapping with the key size"),
        (
            {"output": "{}"},
            "line 3: output.path: missing; it must be the path or URI of a directory that can be written to",
        ),
        ({"input": ""}, "line 1: input.path: missing; it must be a path, a glob or a URI, or a list of these"),
    ],
)
def test_keys(sections: dict[str, str], said: str) -> None:
    assert message(config(**sections)) == f"c.yaml, {said}"


def test_a_missing_section_is_its_missing_key() -> None:
    text = "input: {path: photos}\noutput: {path: out}\n"
    allowed = "a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle"
    assert message(text) == f"c.yaml: model.handle: missing; it must be {allowed}"


def test_every_problem_has_its_line() -> None:
    text = config(model="{handel: m}", image="\n  fraction: 2\n  size: [1, x]", batch="{size: $x}")
    assert message(text, "output.topk=3", "batch.size=true", "model.labels=$NOPE").splitlines() == [
        "--set model.labels=$NOPE: model.labels: '$NOPE' is not valid: "
        "the environment variable NOPE is not set (write $$ for a plain $)",
        "c.yaml, line 2: model.handle: missing; "
        "it must be a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle",
        "c.yaml, line 2: model.handel: unknown key; did you mean model.handle?",
        "c.yaml, line 6: image.size: [1, 'x'] is not valid; "
        "it must be [height, width], two whole numbers from 1 to 4096",
        "c.yaml, line 5: image.fraction: 2 is not valid; it must be a number above 0 and up to 1",
        "--set batch.size=true: batch.size: true is not valid; it must be a whole number from 1 to 4096",
        "--set output.topk=3: output.topk: unknown key; did you mean output.top_k?",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([True, 1.5, "a"], "[true, 1.5, 'a']"),
        ({"a": {"b": {"c": 1}}}, "{a: {b: {...}}}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ...]"),
        ("x" * 200, "'" + "x" * 76 + "..."),
        ("a\nb", "'a\\nb'"),
        ({"a\nb": 1}, "{'a\\nb': 1}"),
        ([], "[]"),
    ],
)
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_message_is_all_that_is_printed() -> None:
    Path("c.yaml").write_text(config(image="{fracton: 1}"))
    program = (
        "import sys\nfrom pipeline.config import load_config\nfrom pipeline.errors import HublabelError\n"
        "try:\n    load_config('c.yaml')\nexcept HublabelError as error:\n"
        "    assert error.__suppress_context__\n    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "c.yaml, line 4: image.fracton: unknown key; did you mean image.fraction?\n"
    assert "Traceback" not in done.stderr


# --- whatever is typed


def all_sections(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], type[BaseModel]]]:
    found = [(path, model)]
    for name, field in model.model_fields.items():
        section = section_of(field)
        found += all_sections(section, (*path, name)) if section else []
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(all_sections(RunConfig)), st.text(min_size=1, max_size=30), st.integers() | st.none() | st.text()
)
def test_an_unknown_key_anywhere_is_refused(
    place: tuple[tuple[str, ...], type[BaseModel]], name: str, value: Any
) -> None:
    path, section = place
    if name in section.model_fields:
        return
    values: dict[str, Any] = {"input": {"path": "p"}, "model": {"handle": "m"}, "output": {"path": "o"}}
    inner = values
    for part in path:
        inner = inner.setdefault(part, {})
    inner[name] = value
    said = message(yaml.safe_dump(values, allow_unicode=True))
    assert "unknown key; " in said or "is not a key; a key is a word" in said  # as 0E0, a number here
    assert len(said.splitlines()) == 1
