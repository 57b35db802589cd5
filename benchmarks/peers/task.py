"""What every peer is given and what it makes of a photo. Imports nothing of ours: a peer's environment has not got it.

The preprocessing is that of configs/quickstart.yaml as near as it goes without TensorFlow: OpenCV's bicubic filter has
a sharper kernel (a = -0.75, not -0.5). About one label in forty differs by that.
"""

import argparse
import io
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE, FRACTION, BATCH = 224, 0.875, 32
cv2.setNumThreads(0)  # the photos are spread over threads or processes already


def parse_arguments(description):
    """The photos' folder, the SavedModel, the labels, where Parquet goes, and a file for the times of batches."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("--images", "--model", "--labels", "--output", "--timings"):
        parser.add_argument(name, required=True)
    return parser.parse_args()


def read_labels(path):
    return Path(path).read_text(encoding="utf-8").splitlines()


def decode(data):
    """A JPEG file's bytes to uint8 [H, W, 3]; raises OSError when it is cut short."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def model_input(pixels):
    """uint8 [H, W, 3] to float32 [SIZE, SIZE, 3]: the centre crop, resized, in about [-1, 1]."""
    height, width = pixels.shape[:2]
    side = int(FRACTION * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    crop = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    resized = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return (resized.astype(np.float32) - 127.0) / 128.0


def load_tensorflow(path):
    """A function of float32 [B, SIZE, SIZE, 3] to logits float32 [B, classes]."""
    import tensorflow as tf

    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]
    serve.keep_alive = model  # a signature holds its variables weakly
    return lambda images: serve(input=tf.constant(images))["output"].numpy()


def best(logits):
    """The best class of each image and its score (softmax): lists of int and float."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    classes = logits.argmax(axis=1)
    scores = (shifted / shifted.sum(axis=1, keepdims=True))[np.arange(len(classes)), classes]
    return classes.tolist(), scores.tolist()


def note_batch(timings, images):
    """Append that the model is done with so many images more, and the time (Unix seconds)."""
    with open(timings, "a", encoding="utf-8") as file:
        file.write(f"{images} {time.time()}\n")
