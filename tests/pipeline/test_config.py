"""The config as a type: defaults, overrides, paths, what it hands on, and how quickly it is there."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config import RunConfig, config_from_resolved, load_config
from pipeline.config_errors import keys_of, must_be, shown
from pipeline.config_sections import OUTPUT_COLUMNS
from pipeline.errors import UsageError
from pipeline.labels import load_labels
from transforms.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]
SMALLEST = "input: {path: photos}\nmodel: {handle: models/m}\noutput: {path: out}\n"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "configs" / "run.yaml"
    path.parent.mkdir()
    path.write_text(SMALLEST)
    return path


def test_defaults(config_file: Path) -> None:
    assert load_config(config_file).resolved() == {
        "input": {
            "path": "photos",
            "uri_column": "uri",
            "columns": [],
            "on_bad_line": "fail",
            "limit": None,
            "allow_private_hosts": False,
            "user_agent": "hublabel",
            "http": {
                "connect_timeout": 10.0,
                "read_timeout": 30.0,
                "retries": 4,
                "max_redirects": 10,
                "per_host": 16,
            },
        },
        "model": {
            "handle": "models/m",
            "sha256": None,
            "staging": None,
            "signature": "serving_default",
            "input": None,
            "outputs": {"logits": "output"},
            "engine": "tensorflow",
            "precision": "float32",
            "activation": "softmax",
            "labels": None,
            "label_offset": 0,
        },
        "image": {
            "size": [224, 224],
            "dtype": "float32",
            "channels": "rgb",
            "geometry": "stretch",
            "fraction": 1.0,
            "resample": "bilinear",
            "antialias": False,
            "scale": 255.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "transpose": False,
            "exif": True,
            "background": [255, 255, 255],
            "max_bytes": 67108864,
            "max_pixels": 100000000,
            "allow_truncated": False,
            "decoder": "auto",
        },
        "batch": {"size": 32},
        "output": {"path": "out", "top_k": 5, "logits": False, "embedding": False, "uri": "as_given"},
        "run": {
            "shard_size": "auto",
            "planning": "auto",
            "max_failed": {"fraction": 0.05, "at_least": 100},
            "timeout": {"read": 120.0, "decode": 60.0},
            "decode_threads": None,
        },
        "report": {"html": True, "thumbnails": 40, "remote_thumbnails": False, "thumbnail_seconds": 10.0},
        "runner": {"name": "DirectRunner", "options": {}},
    }


def test_defaults_of_preprocessing_are_those_of_the_workers(config_file: Path) -> None:
    assert load_config(config_file).preprocessing() == Preprocessing()


def test_preprocessing_takes_every_value(config_file: Path) -> None:
    wanted = Preprocessing(
        height=320,
        width=240,
        dtype="float32",
        channels="bgr",
        geometry="crop_resize",
        fraction=0.5,
        resample="bicubic",
        antialias=True,
        scale=127.5,
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
        transpose=True,
        exif=False,
        background=(1, 2, 3),
        max_bytes=10,
        max_pixels=20,
        allow_truncated=True,
        decoder="tensorflow-io",
    )
    values = dataclasses.asdict(wanted)
    values["size"] = [values.pop("height"), values.pop("width")]
    # The defaults differ in each, so that a value that gets lost is seen.
    overrides = [f"image.{name}={json.dumps(value)}" for name, value in values.items()]
    assert load_config(config_file, overrides).preprocessing() == wanted


def test_an_empty_section_has_its_defaults(config_file: Path) -> None:
    config_file.write_text(SMALLEST + "image:\nbatch: {}\n")
    assert load_config(config_file).image.size == (224, 224)


def test_whole_numbers_are_numbers_and_so_is_1e_3(config_file: Path) -> None:
    config_file.write_text(SMALLEST + "image: {scale: 1, mean: [127, 127, 127], std: [1e-3, 1E+2, -0]}\n")
    with pytest.raises(UsageError, match=r"image.std: \[0.001, 100.0, 0\] is not valid"):
        load_config(config_file)
    image = load_config(config_file, ["image.std=[1e-3, 1E+2, 5]"]).image
    assert (image.scale, image.mean, image.std) == (1.0, (127.0, 127.0, 127.0), (0.001, 100.0, 5.0))


def test_a_date_is_text(config_file: Path) -> None:
    config_file.write_text(SMALLEST.replace("photos", "2024-01-01"))
    assert load_config(config_file).input.path == "2024-01-01"


def test_yes_and_on_are_text(config_file: Path) -> None:
    assert load_config(config_file, ["input.columns=[no, y, on]"]).input.columns == ("no", "y", "on")


def test_paths_of_input(config_file: Path) -> None:
    assert load_config(config_file).input.paths == ("photos",)
    assert load_config(config_file, ["input.path=[a, b]"]).input.paths == ("a", "b")


@pytest.mark.parametrize(
    ("outputs", "activation", "classifies"),
    [
        ("{logits: a}", "softmax", True),
        ("{probabilities: a}", "none", True),
        ("{logits: a, probabilities: b}", "none", True),
        ("{logits: a, embedding: b}", "softmax", True),
        ("{embedding: a}", "none", False),
    ],
)
def test_activation_where_none_is_given(config_file: Path, outputs: str, activation: str, classifies: bool) -> None:
    model = load_config(
        config_file, [f"model.outputs={outputs}", "output.embedding=" + json.dumps("emb" in outputs)]
    ).model
    assert (model.activation, model.classifies) == (activation, classifies)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["image.dtype=uint8"],
        ["model.outputs={embedding: e}", "output.embedding=true"],
        [
            "model.outputs={probabilities: p}",
            "model.label_offset=1",
            "runner.options={temp_location: x, labels: [a, b]}",
        ],
        ["input.path=[~/a, $HOME/b]", "model.labels=l.txt", "input.columns=[a, b]", "run.shard_size=7"],
    ],
)
def test_resolved_is_plain_and_comes_back_the_same(config_file: Path, overrides: list[str]) -> None:
    config = load_config(config_file, overrides)
    assert config_from_resolved(json.loads(json.dumps(config.resolved())), "run.yaml") == config
    assert config_from_resolved(yaml.safe_load(yaml.safe_dump(config.resolved())), "run.yaml") == config


def test_resolved_leaves_out_what_does_not_apply(config_file: Path) -> None:
    resolved = load_config(config_file, ["image.dtype=uint8"]).resolved()
    assert not {"scale", "mean", "std"} & resolved["image"].keys()
    resolved = load_config(config_file, ["model.outputs={embedding: e}", "output.embedding=true"]).resolved()
    assert "top_k" not in resolved["output"]


def test_config_from_resolved_names_what_is_wrong() -> None:
    with pytest.raises(UsageError) as caught:
        config_from_resolved({"input": {"path": "$HOME"}, "model": {}, "output": {"path": "o"}}, "out/run.yaml")
    message = (
        "missing; it must be a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle"
    )
    assert str(caught.value) == f"out/run.yaml: model.handle: {message}"


def test_config_from_resolved_does_not_expand_again() -> None:
    values = {"input": {"path": "$HOME/~"}, "model": {"handle": "~", "labels": "l"}, "output": {"path": "$x"}}
    config = config_from_resolved(values, "run.yaml")
    assert (config.input.path, config.model.handle, config.model.labels) == ("$HOME/~", "~", "l")


def test_runner_options_stay_lists(config_file: Path) -> None:
    """Beam writes an option once for each item of a list, and a tuple as one word."""
    options = load_config(config_file, ["runner.options={labels: [a, b], workers: 2, on: true}"]).runner.options
    assert options == {"labels": ["a", "b"], "workers": 2, "on": True}
    assert type(options["labels"]) is list


# --- overrides


def test_the_last_override_wins_and_the_file_stays(config_file: Path) -> None:
    config_file.write_text(SMALLEST + "image: {size: [10, 20], channels: bgr}\n")
    image = load_config(config_file, ["image.size=[1, 2]", "image.size = [3, 4]"]).image
    assert (image.size, image.channels) == ((3, 4), "bgr")


def test_a_section_can_be_given_whole(config_file: Path) -> None:
    config = load_config(config_file, ["image={size: [3, 4]}", "image.antialias=true", "run.max_failed.at_least=0"])
    assert (config.image.size, config.image.antialias, config.run.max_failed.at_least) == ((3, 4), True, 0)


def test_an_override_does_not_change_an_aliased_section(config_file: Path) -> None:
    config_file.write_text(SMALLEST + "image: &same {}\nbatch: *same\n")
    config = load_config(config_file, ["batch.size=7"])
    assert config.batch.size == 7


@pytest.mark.parametrize("value", ["2024", "*.jpg", "1e5", "true", "a: b", "@x", "photos # 1", "{x}"])
def test_a_path_is_taken_as_typed(config_file: Path, value: str) -> None:
    assert load_config(config_file, [f"input.path={value}"]).input.path == value


def test_a_quoted_path_is_yaml(config_file: Path) -> None:
    assert load_config(config_file, ["input.path='[a].jpg'"]).input.path == "[a].jpg"


# --- paths and variables


def test_labels_of_the_file_are_relative_to_it(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text(SMALLEST.replace("m}", "m, labels: labels/l.txt}"))
    monkeypatch.chdir(config_file.parents[1])
    assert load_config("configs/run.yaml").model.labels == str(config_file.parent / "labels" / "l.txt")


@pytest.mark.parametrize("override", ["model.labels=l.txt", "model={handle: m, labels: l.txt}"])
def test_labels_of_an_override_are_relative_to_the_working_directory(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.chdir(config_file.parents[1])
    assert load_config("configs/run.yaml", [override]).model.labels == str(config_file.parents[1] / "l.txt")


def test_data_and_output_are_as_given(config_file: Path) -> None:
    config = load_config(config_file)
    assert (config.input.path, config.output.path, config.model.handle) == ("photos", "out", "models/m")


def test_home_and_variables_are_expanded(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    config_file.write_text(
        "input: {path: [~/a, $DATA/b, '${DATA}c', a~b, ./~, $$DATA, 5$, $5]}\n"
        "model: {handle: 'gs://$DATA/m', labels: ~/l.txt}\n"
        "output: {path: '${TILDE}/o'}\n"
    )
    config = load_config(config_file, environ={"DATA": "d", "TILDE": "~"})
    assert config.input.path == ("/home/ann/a", "d/b", "dc", "a~b", "./~", "$DATA", "5$", "$5")
    assert (config.model.handle, config.model.labels) == ("gs://d/m", "/home/ann/l.txt")
    assert config.output.path == "~/o"
    assert load_config(config_file, ["input.path=~"], environ={"DATA": "", "TILDE": "o"}).input.path == "/home/ann"


def test_the_environment_is_the_process_own(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBLABEL_TEST_OUT", "here")
    assert load_config(config_file, ["output.path=$HUBLABEL_TEST_OUT"]).output.path == "here"


# --- what stands around it


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    config = load_config(path)
    config.preprocessing()
    if config.model.labels:
        assert len(load_labels(config.model.labels)) == 1000
    assert path.read_text().startswith("# ")
    assert f"hublabel run configs/{path.name}" in path.read_text()


def test_quickstart_is_the_preprocessing_of_efficientnet_lite0() -> None:
    config = load_config(ROOT / "configs/quickstart.yaml")
    assert config.preprocessing() == Preprocessing(
        geometry="crop_resize",
        fraction=0.875,
        resample="bicubic",
        scale=1.0,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
    assert (config.input.path, config.output.path) == ("samples/photos", "out/quickstart")
    assert (config.model.handle, config.model.outputs) == ("models/efficientnet-lite0", {"logits": "output"})
    assert Path(config.model.labels or "") == ROOT / "configs/labels/ilsvrc2012_wordnet_lemmas.txt"


def test_every_key_is_in_the_docs_with_type_default_and_meaning() -> None:
    rows = re.findall(r"^\| (`.*) \|$", (ROOT / "docs/config.md").read_text(), re.MULTILINE)
    wanted = []
    for path, field in keys_of(RunConfig):
        default = field.default if isinstance(field.default, str) else shown(field.default)
        default = "required" if field.is_required() else f"`{default}`"
        wanted.append(f"`{'.'.join(path)}` | {must_be(field)} | {default} | {field.description}")
    assert [row for row in rows if row.count(" | ") == 3] == wanted


def test_output_columns_are_those_of_the_schema() -> None:
    from transforms.records import Columns, prediction_schema

    names = prediction_schema(Columns(top_k=5, logits=2, embedding=3)).names
    assert sorted(names) == sorted(OUTPUT_COLUMNS)


def test_the_keys_of_image_are_the_values_of_preprocessing() -> None:
    keys = {path[1] for path, _ in keys_of(RunConfig) if path[0] == "image"}
    assert {field.name for field in dataclasses.fields(Preprocessing)} - {"height", "width"} == keys - {"size"}


def test_importing_the_config_is_light() -> None:
    program = (
        "import sys, pipeline.config, pipeline.labels; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"tensorflow", "apache_beam", "pyarrow", "numpy", "cv2", "rich"} & set(out.split())
