"""One way to run a model, in a process of its own that calls it when told: `python -m benchmarks.engine_loop JSON`.

JSON: `path` of the SavedModel, `way` (`bare` or an engine), `precision`, `images` (a .npy file, one batch), and if it
is to be another than TensorFlow's own, `division` of the batch. For each line of standard input the model is called
once and a line of JSON printed: `seconds` and `cpu_seconds`, of all threads. A line that names a file gets the logits
written there, float32 [B, classes].
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from transforms.buffers import BATCHES
from transforms.engines import tensorflow as tensorflow_engine
from transforms.engines.division import Division
from transforms.model import Classifier, ModelSpec

Logits = Callable[[], np.ndarray]


def bare(path: str, images: np.ndarray) -> Logits:
    """The SavedModel's signature, its variables made constants, called on a tensor that is ready."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    module = tf.saved_model.load(path)  # held: a signature alone does not keep the variables it reads
    serve = module.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    (output,) = serve.structured_outputs
    specification = tf.TensorSpec(images.shape, images.dtype, name=name)
    traced = tf.function(lambda given: serve(**{name: given})[output], input_signature=[specification], autograph=False)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    ready = tf.constant(images)
    return lambda: frozen(ready)[0].numpy()


def engine(path: str, images: np.ndarray, name: str, precision: str) -> Logits:
    """hublabel's way, without its comparison with TensorFlow, which only the first batch of a new model gets."""
    outputs = (("logits", "output"),)
    spec = ModelSpec(
        path, "serving_default", None, outputs, images.shape[1:], images.dtype.name, len(images), name, precision
    )  # fmt: skip
    classifier = Classifier(spec)
    classifier._comparison = None  # it would start TensorFlow in a process beside, with the first batch
    batch = BATCHES.empty(images.shape, images.dtype.name)  # as the pipeline's are
    batch[:] = images
    return lambda: classifier(batch)["logits"]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    given: dict[str, Any] = json.loads(sys.argv[1])
    images = np.load(given["images"])
    if "division" in given:
        tensorflow_engine.divide = lambda *_, **__: Division(**given["division"])
    if given["way"] == "bare":
        call = bare(given["path"], images)
    else:
        call = engine(given["path"], images, given["way"], given["precision"])
    call()
    print("ready", file=answers)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        logits = call()
        took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        if line.strip():
            np.save(line.strip(), logits)
        print(json.dumps(took), file=answers)


if __name__ == "__main__":
    main()
