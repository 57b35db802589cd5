"""Whole runs with models of other shapes, and what they write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pictures import COLOURS, colour_of
from tests.pipeline.running import Hublabel, expected_row, read_rows, scores_of
from tests.saved_models import SIZE, image_spec, means, save_callable, save_signature
from transforms.engines import rewriting
from transforms.model import _loaded


def use_model(hublabel: Hublabel, path: Path, settings: str, image: str = "") -> None:
    """Let the config name the model at `path` with `settings`, and images of its size."""
    plain = "scale: 1.0, mean: [0, 0, 0], std: [1, 1, 1]"
    text = re.sub(r"model: .*", f"model: {{handle: {path}, {settings}}}", hublabel.config.read_text())
    hublabel.config.write_text(re.sub(r"image: .*", f"image: {{size: [{SIZE}, {SIZE}], {image or plain}}}", text))


def logits(input: Any) -> dict[str, Any]:
    return {"output": means(input) * 0.1}


def gelu_logits(input: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"output": tf.nn.gelu(means(input) * 0.1) * 0.5}


def call(images: Any) -> Any:
    return means(images) * 0.1


def call_with_keyword_only(*, input: Any) -> dict[str, Any]:
    return {"output": means(input) * 0.1}


def saved_callable(folder: Path) -> Path:
    return save_callable(folder, call)


def saved_keyword_callable(folder: Path) -> Path:
    return save_callable(folder, call_with_keyword_only, input=image_spec())


def archived(folder: Path) -> Path:
    save_signature(folder, logits)
    with tarfile.open(f"{folder}.tar.gz", "w:gz") as tar:
        tar.add(folder, "./")
    return Path(f"{folder}.tar.gz")


@pytest.mark.parametrize(
    ("save", "settings", "image"),
    [
        (saved_callable, "signature: null", ""),
        (saved_keyword_callable, "signature: null, input: input", ""),
        (archived, "signature: serving_default", ""),
        (lambda folder: save_signature(folder, logits, image_spec("uint8")), "input: input", "dtype: uint8"),
    ],
)
def test_the_same_labels_however_a_model_is_called(
    hublabel: Hublabel,
    picture_folder: Path,
    colour_labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    save: Callable[[Path], Path],
    settings: str,
    image: str,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(hublabel.output.parent / "cache"))
    path = save(hublabel.output.parent / "model")
    use_model(hublabel, path, f"labels: {colour_labels}, {settings}", image)
    assert hublabel.labelled() == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]


def test_logits_and_embeddings_are_columns_on_request(hublabel: Hublabel, picture_folder: Path) -> None:
    (picture_folder / "004.png").write_bytes(b"broken")
    rows = hublabel.labelled("--set", "output.logits=true", "--set", "output.embedding=true")
    for number, row in enumerate(rows):
        logits_, embedding = row.pop("logits"), row.pop("embedding")
        if number == 4:
            assert logits_ == embedding == [None, None, None]
        else:
            assert embedding == list(colour_of(number))
            assert logits_ == pytest.approx([0.1 * channel for channel in colour_of(number)])
            assert row == expected_row(number, picture_folder / f"{number:03d}.png", number)
    schema = pq.read_schema(hublabel.parts()[0])
    assert schema.names[-2:] == ["logits", "embedding"]
    assert str(schema.field("logits").type) == "fixed_size_list<element: float>[3]"


def test_embeddings_alone(hublabel: Hublabel, colour_model: Path) -> None:
    use_model(hublabel, colour_model, "outputs: {embedding: features}")
    text = hublabel.config.read_text().replace(f"[{SIZE}, {SIZE}]", "[8, 8]").replace("top_k: 3", "embedding: true")
    hublabel.config.write_text(text)
    said = hublabel.run()
    assert said.code == 0, said.err
    rows = hublabel.rows()
    assert [row["embedding"] for row in rows] == [list(colour_of(n)) for n in range(10)]
    assert not {"label", "label_index", "score", "top_k", "logits"} & set(rows[0])
    assert hublabel.report()["labels"] == {}
    assert "10 images: 10 labelled, 0 failed" in said.out


def test_probabilities_are_taken_as_they_are(hublabel: Hublabel, colour_labels: Path) -> None:
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        return {"p": tf.nn.softmax(means(input) * 0.1), "z": means(input)}

    path = save_signature(hublabel.output.parent / "model", serve)
    use_model(hublabel, path, f"outputs: {{probabilities: p}}, labels: {colour_labels}")
    rows = hublabel.labelled()
    for number, row in enumerate(rows):
        scores = scores_of(colour_of(number))
        assert row["label_index"] == int(np.argmax(scores))
        assert [entry["score"] for entry in row["top_k"]] == pytest.approx(sorted(scores, reverse=True), rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "score"),
    [("none", lambda logit: logit), ("sigmoid", lambda logit: 1 / (1 + np.exp(-logit)))],
)
def test_other_activations(hublabel: Hublabel, activation: str, score: Callable[[float], float]) -> None:
    rows = hublabel.labelled("--set", f"model.activation={activation}")
    for number, row in enumerate(rows):
        best = max(colour_of(number))
        assert row["label"] == COLOURS[colour_of(number).index(best)]
        assert row["score"] == pytest.approx(score(0.1 * best), rel=1e-5)


def test_a_class_before_the_labels_is_background(hublabel: Hublabel, colour_labels: Path, picture_folder: Path) -> None:
    """Modules with 1001 classes: class 0 is background; the labels begin with class 1."""
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        found = means(input) * 0.1
        return {"output": tf.concat([14.0 - found[:, 2:], found], 1)}  # little blue is background

    path = save_signature(hublabel.output.parent / "model", serve)
    use_model(hublabel, path, f"labels: {colour_labels}, label_offset: 1")
    rows = hublabel.labelled("--set", "output.top_k=4", "--set", "output.logits=true")
    for number, row in enumerate(rows):
        channels = [0.1 * channel for channel in colour_of(number)]
        four = [14.0 - channels[2], *channels]
        order = sorted(range(4), key=lambda index: -four[index])
        assert [entry["label_index"] for entry in row["top_k"]] == [index - 1 for index in order]
        assert [entry["label"] for entry in row["top_k"]] == [["background", *COLOURS][index] for index in order]
        assert row["logits"] == pytest.approx(four, rel=1e-5)
    assert [row["label"] for row in rows] == ["blue" if n % 3 == 2 else "background" for n in range(10)]


def test_without_labels_there_are_indices(hublabel: Hublabel, picture_folder: Path) -> None:
    said = hublabel.run("--set", "model.labels=null")
    assert said.code == 0, said.err
    unnamed = [None, None, None]
    assert hublabel.rows() == [expected_row(n, picture_folder / f"{n:03d}.png", n, unnamed) for n in range(10)]
    assert "001.png  1      1.000" in said.out
    assert hublabel.report()["labels"] == {"0": 4, "1": 3, "2": 3}


@pytest.mark.parametrize(("top_k", "entries"), [(1, 1), (2, 2), (1000, 3)])
def test_top_k_has_no_more_than_there_are_classes(hublabel: Hublabel, top_k: int, entries: int) -> None:
    rows = hublabel.labelled("--set", f"output.top_k={top_k}")
    for number, row in enumerate(rows):
        scores = sorted(scores_of(colour_of(number)), reverse=True)[:entries]
        assert [entry["score"] for entry in row["top_k"]] == pytest.approx(scores, rel=1e-5)
        assert row["score"] == row["top_k"][0]["score"]


def test_another_engine_gives_the_same_rows_and_is_pinned(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(hublabel.output.parent / "cache"))
    rows = hublabel.labelled("--set", "model.engine=openvino")
    assert rows == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert len(list((hublabel.output.parent / "cache" / "hublabel" / "engines").iterdir())) == 1
    pins = hublabel.report()["fingerprints"]["pins"]
    assert pins["model.engine"] == "openvino"
    assert pins["library openvino"] == version("openvino")
    said = hublabel.run()
    assert said.code == 2
    assert 'model.engine: the run has "openvino", now it is "tensorflow"' in said.err


def test_a_broken_rewriting_never_reaches_a_row(
    hublabel: Hublabel, colour_labels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of a run whose rewriting mixes up the classes, and of one that rewrites nothing."""
    path = save_signature(hublabel.output.parent / "model", gelu_logits, image_spec())
    use_model(hublabel, path, f"labels: {colour_labels}")
    real = rewriting.rewritten
    made = []

    def mixing(function: Any) -> Any:
        made.append(real(function))
        return lambda images: [output[:, ::-1] for output in made[-1](images)]

    def failing(function: Any) -> Any:
        raise ValueError("not to be rewritten")

    found = []
    for rewritten, cache in ((mixing, "cache"), (mixing, "cache"), (failing, "another")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(hublabel.output.parent / cache))
        monkeypatch.setattr(rewriting, "rewritten", rewritten)
        _loaded.clear()  # as in a process of its own
        output = Path(f"{hublabel.output}-{len(found)}")
        assert hublabel.run("--set", f"output.path={output}").code == 0
        found.append([(row["uri"], row["label"], row["top_k"]) for row in read_rows(output)])
    assert found[0] == found[1] == found[2]
    assert len({label for _, label, _ in found[0]}) > 1
    assert len(made) == 1
    told = [message for message in caplog.messages if "so its labels would be others" in message]
    assert ["compared by an earlier run" in message for message in told] == [False, True]


@pytest.mark.slow
def test_another_engine_does_without_tensorflow(colour_config: Path, tmp_path: Path) -> None:
    """Where neither a format nor the resampling needs it, and the comparison has been made."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), colour_of(number)).save(tmp_path / "photos" / f"{number}.jpg", quality=95)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for attempt in range(2):
        command = [sys.executable, "-m", "pipeline.cli", "run", str(colour_config), "--set", "model.engine=openvino"]
        command += ["--set", f"output.path={tmp_path}/{attempt}"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert "3 images: 3 labelled, 0 failed" in done.stdout
        log = (tmp_path / str(attempt) / "run.log").read_text()
        assert re.search(r"OpenVINO \S+ and TensorFlow \S+ on 4 images: largest difference, relative: ", log)
        # From now on an import of TensorFlow fails.
        (tmp_path / "without").mkdir(exist_ok=True)
        (tmp_path / "without" / "tensorflow.py").write_text("raise ImportError('tensorflow is imported')")
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "without"), os.getcwd()])
    assert "(compared by an earlier run)" in log


def test_what_an_engine_does_not_take_is_told(hublabel: Hublabel, colour_labels: Path) -> None:
    path = saved_callable(hublabel.output.parent / "model")
    use_model(hublabel, path, f"labels: {colour_labels}, signature: null, engine: openvino")
    said = hublabel.run()
    assert said.code == 2
    assert (
        "OpenVINO calls the signature serving_default, not the object itself; use model.engine: tensorflow" in said.err
    )


def test_an_engine_that_is_not_installed(hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "openvino":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("pipeline.versions.version", installed)
    said = hublabel.run("--set", "model.engine=openvino")
    assert said.code == 2
    assert "model.engine: openvino is not installed; pip install 'hublabel[openvino]', or use model.engine" in said.err
