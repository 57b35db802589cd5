"""The stand-in for the published module has the faults that the real one has, and the same network inside."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.convmixer import architecture
from pipeline.models.torch_checkpoint import read_checkpoint
from tests.pipeline.models.published_module import save_published_module

DATA = Path(__file__).parents[2] / "data" / "convmixer"
NAME = "gelu_k5_p7"


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    import tensorflow_hub as hub

    spec = json.loads((DATA / "spec.json").read_text())[NAME]
    arch = architecture(
        dim=spec["dim"],
        depth=spec["depth"],
        kernel_size=spec["kernel_size"],
        patch_size=spec["patch_size"],
        classes=spec["classes"],
    )
    folder = tmp_path_factory.mktemp("published") / "module"
    save_published_module(folder, read_checkpoint(DATA / f"{NAME}.pth"), arch, spec["image_size"])
    return hub.load(str(folder))


@pytest.fixture(scope="module")
def data():
    with np.load(DATA / f"{NAME}_io.npz") as file:
        return file["images_nhwc"], file["logits"]


def test_gives_the_logits_of_pytorch_only_when_fed_transposed(module, data):
    import tensorflow as tf

    images, logits = data
    serve = module.signatures["serving_default"]
    transposed = serve(tf.constant(images.transpose(0, 2, 1, 3)))["output"].numpy()
    np.testing.assert_allclose(transposed, logits, rtol=1e-4, atol=1e-6)
    upright = serve(tf.constant(images))["output"].numpy()
    assert np.abs(upright - logits).max() > 0.01 * np.abs(logits).max()


def test_takes_keywords_only_and_has_no_variables(module, data):
    import tensorflow as tf
    import tensorflow_hub as hub

    images = tf.constant(data[0])
    assert module(input=images)["output"].shape == (4, 10)
    with pytest.raises((TypeError, ValueError)):
        module(images)
    with pytest.raises((TypeError, ValueError)):
        hub.KerasLayer(module)(images)
    assert not hasattr(module, "variables")
    graph = module.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert "Transpose" in operations
    assert "ReadVariableOp" not in operations


def test_signature_has_the_names_of_the_real_one(module):
    serve = module.signatures["serving_default"]
    (specification,) = serve.structured_input_signature[1].values()
    assert (specification.name, specification.shape.as_list()) == ("input", [None, 56, 56, 3])
    assert list(serve.structured_outputs) == ["output"]
