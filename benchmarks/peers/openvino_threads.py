"""OpenVINO with a thread pool: photos are decoded by threads, two batches ahead of the model."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import pyarrow as pa
import pyarrow.parquet as pq
from task import BATCH, SIZE, best, decode, model_input, note_batch, parse_arguments, read_labels


def load(path):
    return model_input(decode(Path(path).read_bytes()))


def batches(files, pool):
    """Lists of loaded photos, BATCH at a time, with two batches on their way."""
    waiting = deque()
    for start in range(0, len(files), BATCH):
        waiting.append([pool.submit(load, path) for path in files[start : start + BATCH]])
        if len(waiting) > 2:
            yield [photo.result() for photo in waiting.popleft()]
    for rest in waiting:
        yield [photo.result() for photo in rest]


def main():
    arguments = parse_arguments(__doc__)
    files = sorted(str(path) for path in Path(arguments.images).glob("*.jpg"))
    labels = read_labels(arguments.labels)
    core = openvino.Core()
    model = core.read_model(arguments.model)
    model.reshape([BATCH, SIZE, SIZE, 3])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    classify = core.compile_model(model, "CPU", settings)

    classes, scores = [], []
    images = np.zeros((BATCH, SIZE, SIZE, 3), np.float32)
    with ThreadPoolExecutor() as pool:
        for photos in batches(files, pool):
            images[: len(photos)] = photos
            found = best(classify(images)[0][: len(photos)])
            classes += found[0]
            scores += found[1]
            note_batch(arguments.timings, len(photos))
    table = pa.table({"uri": files, "label": [labels[index] for index in classes], "score": scores})
    pq.write_table(table, arguments.output, compression="zstd")


if __name__ == "__main__":
    main()
