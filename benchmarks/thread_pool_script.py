"""The other plain script that hublabel is measured against: a thread pool decodes, TensorFlow's model labels.

    python benchmarks/thread_pool_script.py --images DIR --model DIR --labels FILE --output FILE

Written as a user without `tf.data` would write it: Pillow decodes, two batches ahead of the model; no failed rows, no
resuming. The preprocessing is that of configs/quickstart.yaml, to the last bit. Imports nothing of ours.
"""

import argparse
import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image

SIZE, FRACTION, BATCH, TOP_K, AHEAD = 224, 0.875, 32, 5, 2


def load(path):
    """A file's path to float32 [SIZE, SIZE, 3] in about [-1, 1]."""
    image = np.asarray(Image.open(path).convert("RGB"))
    height, width = image.shape[:2]
    side = int(FRACTION * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    crop = image[top : top + side, left : left + side]
    return (tf.image.resize(crop, [SIZE, SIZE], method="bicubic").numpy() - 127.0) / 128.0


def batches(files, pool):
    """Batches of loaded photos, float32 [BATCH, SIZE, SIZE, 3], the last one shorter."""
    waiting = deque()
    for start in range(0, len(files), BATCH):
        waiting.append([pool.submit(load, path) for path in files[start : start + BATCH]])
        if len(waiting) > AHEAD:
            yield np.stack([photo.result() for photo in waiting.popleft()])
    for rest in waiting:
        yield np.stack([photo.result() for photo in rest])


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
    model = tf.saved_model.load(arguments.model)
    classify = model.signatures["serving_default"]

    classes, scores, done = [], [], []
    with ThreadPoolExecutor() as pool:
        for batch in batches(files, pool):
            best = tf.math.top_k(tf.nn.softmax(classify(input=tf.constant(batch))["output"]), TOP_K)
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
