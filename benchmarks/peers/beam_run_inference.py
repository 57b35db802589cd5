"""Beam's RunInference on the local runner, with a handler of its own around the SavedModel.

Beam's TFModelHandler loads models with `tf.keras.models.load_model`, which under Keras 3 takes no SavedModel.
"""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from task import BATCH, best, decode, load_tensorflow, model_input, note_batch, parse_arguments, read_labels

SCHEMA = pa.schema([("uri", pa.string()), ("label", pa.string()), ("score", pa.float32())])


class SavedModelHandler(ModelHandler):
    def __init__(self, model, timings):
        super().__init__()
        self.model, self.timings = model, timings

    def load_model(self):
        return load_tensorflow(self.model)

    def run_inference(self, batch, model, inference_args=None):  # noqa: ARG002  # Beam's signature
        found = best(model(np.stack(batch)))
        note_batch(self.timings, len(batch))
        return list(zip(*found, strict=True))

    def batch_elements_kwargs(self):
        return {"min_batch_size": BATCH, "max_batch_size": BATCH}


def load(path):
    return path, model_input(decode(Path(path).read_bytes()))


def to_row(keyed, labels):
    uri, (index, score) = keyed
    return {"uri": uri, "label": labels[index], "score": score}


def main():
    arguments = parse_arguments(__doc__)
    files = sorted(str(path) for path in Path(arguments.images).glob("*.jpg"))
    handler = KeyedModelHandler(SavedModelHandler(arguments.model, arguments.timings))
    # The runner behind DirectRunner for such a pipeline. Asked by that name, Beam would first fetch another, Prism,
    # from the network.
    options = PipelineOptions(runner="FnApiRunner")
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | beam.Create(files)
            | beam.Reshuffle()
            | beam.Map(load)
            | RunInference(handler)
            | beam.Map(to_row, read_labels(arguments.labels))
            | beam.io.WriteToParquet(arguments.output, SCHEMA, file_name_suffix=".parquet")
        )


if __name__ == "__main__":
    main()
