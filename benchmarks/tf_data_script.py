"""The plain script that hublabel is measured against: a `tf.data` pipeline, a SavedModel, one Parquet at the end.

    python benchmarks/tf_data_script.py --images DIR --model DIR --labels FILE --output FILE

Written as a user who knows TensorFlow would write it for one folder of JPEG photos: no failed rows, no resuming.
The preprocessing is that of configs/quickstart.yaml. Imports nothing of ours.
"""

import argparse
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

SIZE, FRACTION, BATCH, TOP_K = 224, 0.875, 32, 5


def load(path):
    """A file's path to float32 [SIZE, SIZE, 3] in about [-1, 1]."""
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    shape = tf.shape(image)
    side = tf.cast(FRACTION * tf.cast(tf.minimum(shape[0], shape[1]), tf.float32), tf.int32)
    top, left = (shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2
    crop = tf.image.crop_to_bounding_box(image, top, left, side, side)
    return (tf.image.resize(crop, [SIZE, SIZE], method="bicubic") - 127.0) / 128.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--timings", help="a file for the times (Unix seconds) at which batches were done")
    arguments = parser.parse_args()

    files = sorted(str(path) for path in Path(arguments.images).rglob("*.[Jj][Pp]*[Gg]"))
    labels = Path(arguments.labels).read_text(encoding="utf-8").splitlines()
    images = tf.data.Dataset.from_tensor_slices(files).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    batches = images.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    model = tf.saved_model.load(arguments.model)
    classify = model.signatures["serving_default"]

    classes, scores, done = [], [], []
    for batch in batches:
        best = tf.math.top_k(tf.nn.softmax(classify(input=batch)["output"]), TOP_K)
        classes.extend(best.indices.numpy().tolist())
        scores.extend(best.values.numpy().tolist())
        done.append((len(classes), time.time()))

    table = pa.table(
        {
            "uri": files,
            "label": [labels[best[0]] for best in classes],
            "score": [best[0] for best in scores],
            "top_k": [[labels[index] for index in best] for best in classes],
            "top_k_scores": scores,
        }
    )
    pq.write_table(table, arguments.output, compression="zstd")
    if arguments.timings:
        Path(arguments.timings).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main()
