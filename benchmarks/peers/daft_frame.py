"""Daft: its own reading and decoding, and a class with the model that crops, resizes and classifies batches."""

import os

import daft
import numpy as np
from daft import DataType
from task import BATCH, best, load_tensorflow, model_input, note_batch, parse_arguments, read_labels

LABELLED = DataType.struct({"label": DataType.string(), "score": DataType.float32()})


@daft.cls(max_concurrency=1)
class Classifier:
    def __init__(self, model, labels, timings):
        self.classify = load_tensorflow(model)
        self.labels = read_labels(labels)
        self.timings = timings

    @daft.method.batch(return_dtype=LABELLED, batch_size=BATCH)
    def label(self, pictures):
        classes, scores = best(self.classify(np.stack([model_input(pixels) for pixels in pictures])))
        note_batch(self.timings, len(classes))
        return [{"label": self.labels[index], "score": score} for index, score in zip(classes, scores, strict=True)]


def main():
    arguments = parse_arguments(__doc__)
    classifier = Classifier(arguments.model, arguments.labels, arguments.timings)
    photos = daft.from_glob_path(f"{arguments.images}/*.jpg")
    pictures = photos["path"].download().decode_image(mode="RGB")
    labelled = photos.select(photos["path"].alias("uri"), classifier.label(pictures).alias("labelled"))
    found = labelled["labelled"]
    labelled.select("uri", found["label"].alias("label"), found["score"].alias("score")).write_parquet(arguments.output)
    os._exit(0)  # in an ordinary end of the process, Daft 0.7.26's threads crash it now and then


if __name__ == "__main__":
    main()
