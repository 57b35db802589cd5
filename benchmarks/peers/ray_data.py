"""Ray Data: photos are read and decoded by tasks, and classified by one actor that holds the model."""

import numpy as np
import ray
from task import BATCH, best, decode, load_tensorflow, model_input, note_batch, parse_arguments, read_labels


def prepare(row):
    return {"uri": row["path"], "image": model_input(decode(row["bytes"]))}


class Classifier:
    def __init__(self, arguments):
        self.classify = load_tensorflow(arguments.model)
        self.labels = read_labels(arguments.labels)
        self.timings = arguments.timings

    def __call__(self, batch):
        classes, scores = best(self.classify(batch["image"]))
        note_batch(self.timings, len(classes))
        labels = [self.labels[index] for index in classes]
        return {"uri": batch["uri"], "label": np.array(labels), "score": np.array(scores, np.float32)}


def main():
    arguments = parse_arguments(__doc__)
    ray.init(include_dashboard=False, log_to_driver=False)
    (
        ray.data.read_binary_files(arguments.images, include_paths=True)
        .map(prepare, num_cpus=0.5)  # two at a time, and not fused with the actor: both keep busy
        .map_batches(Classifier, fn_constructor_args=[arguments], batch_size=BATCH, concurrency=1, num_cpus=1)
        .write_parquet(arguments.output)
    )


if __name__ == "__main__":
    main()
