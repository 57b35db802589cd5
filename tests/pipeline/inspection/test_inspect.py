"""`hublabel inspect` on models of every kind: what it says of them, and that its config runs."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.child import columns_and_labels
from pipeline.config import RunConfig, load_config
from pipeline.inspection.command import Inspection, inspect
from pipeline.models.convmixer import Architecture, export_convmixer
from tests.hub_server import archive_bytes
from tests.pipeline.inspection.modules import SIZE, Network, images
from tests.pipeline.models.published_module import random_arrays, save_published_module
from tests.pipeline.models.torch_files import save_safetensors

LABELS = Path(__file__).parents[3] / "configs" / "labels"
SMALL = Architecture(dim=16, depth=2, kernel_size=3, patch_size=7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


def run_config(inspection: Inspection, tmp_path: Path) -> RunConfig:
    """The printed config, loaded, and the model loaded with it as a run does before the first image."""
    assert inspection.config is not None
    path = tmp_path / "configs" / "printed.yaml"
    shutil.copytree(LABELS, path.parent / "labels")
    path.write_text(inspection.config)
    config = load_config(path)
    columns_and_labels(config, inspection.path)
    return config


def kinds(inspection: Inspection) -> dict[str, tuple[str, int]]:
    return {name: (judgement.kind, judgement.length) for name, judgement in inspection.judged.items()}


def test_a_clean_export(folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "small.safetensors"
    save_safetensors(checkpoint, random_arrays(SMALL))
    export_convmixer(checkpoint, folder, SMALL)
    found = inspect("models/small", str(folder))
    assert kinds(found) == {"output": ("logits", 1000)}
    assert found.judged["output"].why.endswith("; 1,000 of them, as many as ImageNet has classes")
    assert found.classes == 1000
    assert [interface.signature for interface in found.found] == ["serving_default", None]
    assert found.parameters == found.variables > 16_000
    assert found.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    config = run_config(found, tmp_path)
    assert config.model.handle == "models/small"
    assert config.model.outputs == {"logits": "output"}
    assert config.model.labels == str(tmp_path / "configs/labels/ilsvrc2012_wordnet_lemmas.txt")
    assert (config.model.label_offset, config.image.size, config.image.dtype) == (0, (224, 224), "float32")


def test_the_module_as_published(folder: Path, tmp_path: Path) -> None:
    """No variables, the object takes keywords only."""
    arrays = random_arrays(SMALL)
    save_published_module(folder, arrays, SMALL)
    found = inspect("https://tfhub.dev/rishit-dagli/convmixer-1024-20/1", str(folder))
    assert kinds(found) == {"output": ("logits", 1000)}
    assert found.variables == 0
    assert found.parameters == sum(array.size for array in arrays.values())
    assert [str(tensor) for tensor in found.found[1].inputs] == ["float32 [-1, 224, 224, 3]"]
    assert run_config(found, tmp_path).model.signature == "serving_default"


def test_1001_classes_have_an_offset(folder: Path, tmp_path: Path) -> None:
    network = Network(classes=1001)
    network.save(folder, lambda x: {"logits": network.logits(x)}, name="classify")
    found = inspect("m", str(folder))
    assert kinds(found) == {"logits": ("logits", 1001)}
    config = run_config(found, tmp_path)
    assert (config.model.label_offset, config.model.signature) == (1, "classify")
    assert config.image.size == (SIZE, SIZE)


def test_probabilities_are_not_activated_again(folder: Path, tmp_path: Path) -> None:
    network = Network(classes=1001)
    network.save(folder, lambda x: {"out": network.softmax(x)})
    found = inspect("m", str(folder))
    assert kinds(found) == {"out": ("probabilities", 1001)}
    assert found.judged["out"].why == (
        "from 0 to 1, and each picture's add up to 1 by Softmax; 1,001 of them, ImageNet's classes and background"
    )
    config = run_config(found, tmp_path)
    assert (config.model.activation, config.model.label_offset) == ("none", 1)


def test_probabilities_of_several_classes_at_once(folder: Path, tmp_path: Path) -> None:
    network = Network()
    network.save(folder, lambda x: {"out": network.sigmoid(x)})
    found = inspect("m", str(folder))
    assert kinds(found) == {"out": ("probabilities", 10)}
    assert "one by one: several classes may hold" in found.judged["out"].why
    assert run_config(found, tmp_path).model.outputs == {"probabilities": "out"}


def test_uint8_inputs(folder: Path, tmp_path: Path) -> None:
    network = Network()
    network.save(folder, lambda x: {"out": network.logits(x)}, images("uint8"))
    found = inspect("m", str(folder))
    assert kinds(found) == {"out": ("logits", 10)}
    assert "see the model's page" in found.judged["out"].why
    config = run_config(found, tmp_path)
    assert (config.image.dtype, config.model.labels) == ("uint8", None)
    assert found.config is not None
    assert "labels: null   # a text file with 10 lines" in found.config


def test_several_outputs(folder: Path, tmp_path: Path) -> None:
    network = Network()

    def serve(x: Any) -> dict[str, Any]:
        return {
            "a_map": network.map(x), "logits": network.logits(x), "out_2": network.softmax(x),
            "pooled": network.features(x),
        }  # fmt: skip

    network.save(folder, serve)
    found = inspect("m", str(folder))
    assert kinds(found) == {
        "a_map": ("feature maps", 16 * (SIZE // 4) ** 2),
        "logits": ("logits", 10),
        "out_2": ("probabilities", 10),
        "pooled": ("features", 16),
    }
    config = run_config(found, tmp_path)
    assert config.model.outputs == {"probabilities": "out_2", "embedding": "pooled"}
    assert config.output.embedding


def test_features_only(folder: Path, tmp_path: Path) -> None:
    network = Network()
    network.save(folder, lambda x: {"out": network.features(x)})
    found = inspect("m", str(folder))
    assert kinds(found) == {"out": ("features", 16)}
    assert found.judged["out"].why == "the output of a pooling by Mean"
    assert found.classes is None
    assert run_config(found, tmp_path).model.outputs == {"embedding": "out"}


def test_an_object_that_is_called(folder: Path, tmp_path: Path) -> None:
    """As TF2 modules of Hub are: no signature, a trace with training and one without."""
    import tensorflow as tf

    network = Network()

    def call(x: Any, training: bool = False) -> Any:
        return tf.zeros([tf.shape(x)[0], 10]) if training else network.logits(x)

    network.save_callable(folder, call, ((images(), True), {}), ((images(), False), {}))
    found = inspect("m", str(folder))
    assert kinds(found) == {"output": ("logits", 10)}
    assert found.judged["output"].minimum < 0
    config = run_config(found, tmp_path)
    assert (config.model.signature, config.model.outputs) == (None, {"logits": "output"})


@pytest.mark.parametrize(
    ("answer", "name"), [(lambda y: [y], "0"), (lambda y: {"answer": y}, "answer"), (lambda y: y, "output")]
)
def test_an_object_that_takes_keywords_only(folder: Path, tmp_path: Path, answer: Any, name: str) -> None:
    network = Network()

    def call(**inputs: Any) -> Any:
        return answer(network.logits(inputs["picture"]))

    network.save_callable(folder, call, ((), {"picture": images(name="picture")}))
    found = inspect("m", str(folder))
    assert kinds(found) == {name: ("logits", 10)}
    assert run_config(found, tmp_path).model.signature is None


def test_any_size_and_a_batch_of_one(folder: Path, tmp_path: Path) -> None:
    network = Network()
    network.save(folder, lambda x: {"out": network.logits(x)}, images(batch=1, size=None))
    found = inspect("m", str(folder))
    config = run_config(found, tmp_path)
    assert (config.image.size, config.batch.size) == ((224, 224), 1)
    assert found.config is not None
    assert "size: [224, 224]   # the model takes any; see its page" in found.config


def test_what_the_config_says_of_names_that_yaml_and_paths_would_change(folder: Path, tmp_path: Path) -> None:
    network = Network()
    network.save(folder, lambda x: {"yes": network.logits(x)}, name="a: b")
    found = inspect("~models/$HOME #1", str(folder))
    config = run_config(found, tmp_path)
    assert config.model.handle == "./~models/$HOME #1"
    assert (config.model.signature, config.model.outputs) == ("a: b", {"logits": "yes"})


# --- models that hublabel cannot use


def test_inputs_that_are_no_images(folder: Path) -> None:
    import tensorflow as tf

    network = Network()
    for spec, said in (
        (tf.TensorSpec([None], tf.string), "it takes string [-1], and hublabel gives float32 or uint8"),
        (tf.TensorSpec([None, 3, SIZE, SIZE]), f"it takes float32 [-1, 3, {SIZE}, {SIZE}], and hublabel gives"),
        (tf.TensorSpec(None), "it takes float32 of any shape, and hublabel gives"),
    ):
        network.save(folder, lambda x: {"out": tf.zeros([2, 3])}, spec)
        found = inspect("m", str(folder))
        assert found.chosen is None
        assert found.config is None
        assert found.problem is not None
        assert found.problem.startswith(f"signature serving_default: {said}")


def test_two_inputs(folder: Path) -> None:
    import tensorflow as tf

    network = Network()
    network.save(folder, lambda x, y: {"out": network.logits(x) + y}, images(), tf.TensorSpec([], name="y"))
    found = inspect("m", str(folder))
    assert found.problem == ("signature serving_default: it takes 2 tensors, and hublabel has one: the images")


def test_nothing_to_call(folder: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(Network().module, str(folder), signatures={})
    found = inspect("m", str(folder))
    assert found.problem == "it has no signature, and the object itself cannot be called"


def test_a_model_that_fails(folder: Path) -> None:
    import tensorflow as tf

    network = Network()

    def serve(x: Any) -> dict[str, Any]:
        seven = 7 + tf.cast(tf.reduce_sum(x) * 0, tf.int32)  # known when it runs, and no batch has so many
        return {"out": tf.reshape(network.logits(x), [seven, seven])}

    network.save(folder, serve)
    found = inspect("m", str(folder))
    assert found.problem is not None
    assert found.problem.startswith("signature serving_default: the model fails on float32 [8, 32, 32, 3] of zeros: ")
    assert found.config is None


def test_outputs_that_are_not_finite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tensorflow as tf

    network = Network()
    network.save(folder, lambda x: {"out": tf.math.log(-1.0 - tf.abs(network.logits(x)))})
    assert cli.main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "  gives out: float32 [-1, 10]: not finite" in said.splitlines()
    assert said.endswith(
        "\nhublabel cannot label with it: no output is logits, probabilities or a vector of features\n"
    )


# --- the command


def test_the_command_prints_words_and_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network(classes=1000)
    network.save(folder, lambda x: {"out": network.logits(x)})
    assert cli.main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    for line in (
        f"  directory   {folder}",
        f"  parameters  {4 * 4 * 3 * 16 + 16 * 1000 + 1000:,} in variables",
        "  classes     1,000",
        "signature serving_default",
        "  takes images: float32 [-1, 32, 32, 3]",
        "  gives out: float32 [-1, 1000]: logits",
        "A config to begin with:",
    ):
        assert line in said.splitlines(), said
    assert cli.main(["inspect", str(folder), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["classes"] == 1000
    assert values["parameters"] == values["variables"] == 17_768
    assert values["interfaces"][0]["inputs"] == [{"name": "images", "dtype": "float32", "shape": [None, 32, 32, 3]}]
    assert values["outputs"]["out"]["kind"] == "logits"
    (tmp_path / "printed.yaml").write_text(values["config"])
    assert values["config"] in said
    assert load_config(tmp_path / "printed.yaml").model.handle == str(folder)


def test_what_is_no_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    assert cli.main(["inspect", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hublabel: model.handle: {tmp_path} cannot be loaded as a SavedModel: ")
    assert said.count("\n") == 1
    assert cli.main(["inspect", str(tmp_path / "nowhere")]) == 2


def test_an_archive_is_pinned_by_its_digest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = Network()
    network.save(folder, lambda x: {"out": network.logits(x)})
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(archive_bytes(folder, "nested"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert cli.main(["inspect", str(archive)]) == 0
    assert f"  archive     sha256 {digest}" in capsys.readouterr().out.splitlines()
    assert cli.main(["inspect", str(archive), "--json"]) == 0
    (tmp_path / "printed.yaml").write_text(json.loads(capsys.readouterr().out)["config"])
    model = load_config(tmp_path / "printed.yaml").model
    assert (model.handle, model.sha256) == (str(archive), digest)
