import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.plan import Plan, PlanFile
from pipeline.record import (
    NAME,
    RunRecord,
    differences,
    digest,
    hash_file,
    hash_folder,
    load_record,
    make_pins,
    save_record,
)
from transforms.storage import LocalStorage

PLAN = Plan(5, 2, 3, (PlanFile("plan/plan-00000.parquet", 2, 5, 3, 800),), "ab" * 32, {"hidden": 2})
LIBRARIES = {"simplejpeg": "1.8.2", "tensorflow": "2.16.2"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def config(**sections: dict[str, Any]) -> RunConfig:
    values = {"input": {"path": "photos"}, "model": {"handle": "model"}, "output": {"path": "out"}}
    return RunConfig.model_validate({name: values.get(name, {}) | sections.get(name, {}) for name in values | sections})


def record_of(model: Path) -> RunRecord:
    return RunRecord("/data/out", config().resolved(), str(model), make_pins(config(), str(model), LIBRARIES), PLAN, {})


def test_a_record_comes_back_as_it_was(tmp_path: Path, model: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    record = record_of(model)
    assert load_record(storage, "/data/out") is None
    save_record(storage, record)
    assert load_record(storage, "/data/out") == record
    moved = load_record(storage, "/elsewhere")
    assert moved == replace(record, output="/elsewhere")
    assert moved.fingerprint == record.fingerprint


def test_pins_are_what_decides_rows_and_labels(model: Path) -> None:
    pins = make_pins(config(model={"handle": "x"}), str(model), LIBRARIES)
    free = ("batch.", "runner.", "run.", "output.path", "model.handle", "model.labels")
    assert [name for name in pins if name.startswith(free)] == []
    assert pins["input.path"] == "photos"
    assert pins["image.mean"] == [0.485, 0.456, 0.406]
    assert pins["model.outputs.logits"] == "output"
    assert pins["library simplejpeg"] == "1.8.2"
    assert pins["model files"] == hash_folder(str(model))
    assert pins["label file"] is None


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("input", {"path": "others"}, ['input.path: the run has "photos", now it is "others"']),
        ("input", {"limit": 3}, ["input.limit: the run has null, now it is 3"]),
        ("model", {"activation": "sigmoid"}, ['model.activation: the run has "softmax", now it is "sigmoid"']),
        ("model", {"outputs": {"logits": "x"}}, ['model.outputs.logits: the run has "output", now it is "x"']),
        ("image", {"std": [1, 1, 1]}, ["image.std: the run has [0.229, 0.224, 0.225], now it is [1.0, 1.0, 1.0]"]),
        ("output", {"top_k": 9}, ["output.top_k: the run has 5, now it is 9"]),
        ("batch", {"size": 7}, []),
        ("output", {"path": "elsewhere"}, []),
        ("run", {"shard_size": 5, "max_failed": {"fraction": 0.5}}, []),
        ("runner", {"options": {"direct_num_workers": 1}}, []),
        ("model", {"handle": "the/same/elsewhere"}, []),
    ],
)
def test_each_difference_is_named_with_both_values(
    model: Path, section: str, values: dict[str, Any], said: list[str]
) -> None:
    old = make_pins(config(), str(model), LIBRARIES)
    new = make_pins(config(**{section: values}), str(model), LIBRARIES)
    assert differences(old, new) == said


def test_other_files_and_libraries_differ(model: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    settings = config(model={"labels": str(labels)})
    old = make_pins(settings, str(model), LIBRARIES)
    (model / "variables" / "variables.index").write_bytes(b"other")
    labels.write_text("a\nc\n")
    new = make_pins(settings, str(model), {**LIBRARIES, "tensorflow": "2.16.3"})
    assert differences(old, new) == [
        "label file: their contents differ from the run's",
        'library tensorflow: the run has "2.16.2", now it is "2.16.3"',
        "model files: their contents differ from the run's",
    ]


def test_a_library_that_came_or_went_is_a_difference() -> None:
    assert differences({"library a": "1"}, {"library b": "2"}) == [
        'library a: the run has "1", now it is null',
        'library b: the run has null, now it is "2"',
    ]


def test_hashes(tmp_path: Path, model: Path) -> None:
    assert hash_file(str(model / "saved_model.pb")) == hashlib.sha256(b"graph").hexdigest()
    before = hash_folder(str(model))
    copy = tmp_path / "copy"
    (copy / "variables").mkdir(parents=True)
    for name in ("variables/variables.index", "saved_model.pb"):
        (copy / name).write_bytes((model / name).read_bytes())
    assert hash_folder(str(copy)) == before
    (copy / "saved_model.pb").rename(copy / "other.pb")
    assert hash_folder(str(copy)) != before


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def edited(text: str) -> str:
    return text.replace("image.geometry: stretch", "image.geometry: pad")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("format: 1", "format: 99"), "written by another version of hublabel"),
        (edited, r"damaged \(it was edited\)"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda _: "", "damaged"),
        (lambda _: "just: [words", "damaged"),
        (lambda _: "- a list", "damaged"),
        (lambda text: text.replace("versions:", "else:"), "damaged"),
        (lambda text: text.replace("shard_size: 3", "shard_sizes: 3"), "damaged"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, model: Path, spoil: Any, said: str) -> None:
    storage = LocalStorage(str(tmp_path))
    save_record(storage, record_of(model))
    text = (tmp_path / NAME).read_text()
    assert spoil(text) != text
    (tmp_path / NAME).write_text(spoil(text))
    with pytest.raises(UsageError, match=said) as caught:
        load_record(storage, "/data/out")
    assert str(caught.value).startswith("/data/out/run.yaml: ")


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.replace(NAME, b"\xff\xfe\x00bad")
    with pytest.raises(UsageError, match="damaged"):
        load_record(storage, "/data/out")


def test_run_yaml_is_plain_yaml_with_a_word_of_what_it_is(tmp_path: Path, model: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    record = replace(record_of(model), model="/modèle/été")
    save_record(storage, record)
    text = (tmp_path / NAME).read_text(encoding="utf-8")
    assert text.startswith("# What this run is pinned to. Written by hublabel;")
    assert "/modèle/été" in text
    values = yaml.safe_load(text)
    assert list(values)[:2] == ["format", "fingerprint"]
    assert values["fingerprint"] == record.fingerprint == digest(record.pins)
