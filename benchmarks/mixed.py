"""Image sets and a small model for the benchmarks that try to break a run: all made here, nothing downloaded."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16  # pixels, height and width of the model's input
CLASSES = 10
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}

CONFIG = """
input: {{path: {uris}}}
model: {{handle: {model}, outputs: {{logits: output, embedding: features}}}}
image: {{size: [{size}, {size}], scale: 127.5, mean: [1, 1, 1], std: [1, 1, 1]}}
batch: {{size: {batch_size}}}
output: {{path: {output}, top_k: 3, logits: true, embedding: true}}
run: {{shard_size: {shard_size}, max_failed: {{fraction: 1.0}}}}
report: {{thumbnails: 0}}  # they are read after the commit, and what is read then is watched
"""


def picture(seed: int, suffix: str, largest: int = 120) -> bytes:
    """A file of coloured noise, each seed another picture, sides of 20 .. `largest` pixels."""
    random_numbers = np.random.default_rng(seed)
    height, width = random_numbers.integers(20, largest + 1, 2)
    coarse = Image.fromarray(random_numbers.integers(0, 256, (5, 5, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(buffer, FORMATS[suffix])
    return buffer.getvalue()


# What goes wrong with the files of a real collection.
DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data[: len(data) // 2],
    lambda data: data[:0],
    lambda data: data[:40] + bytes(len(data) - 40),
    lambda data: data.hex().encode(),
    lambda data: data[1:],
)
MISSING = 6  # every sixth damaged file is not there at all


def mixed_set(folder: Path, images: int, seed: int, broken: float = 0.15, twice: float = 0.1) -> list[str]:
    """Writes a mixed set of pictures and returns `images` absolute paths: good, broken, missing, some of them twice.

    Args:
        folder: where the files go; made if it is not there.
        images: paths to return.
        seed: the same seed gives the same files and order.
        broken: share of the files that are damaged or missing.
        twice: share of the paths that repeat an earlier one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    files = max(1, round(images * (1 - twice)))
    uris, damaged = [], 0
    for number in range(files):
        suffix = chance.choice(list(FORMATS))
        data = picture(seed * 1_000_003 + number, suffix)
        path = folder / f"{number:06d}.{suffix}"
        uris.append(str(path.absolute()))
        if chance.random() < broken:
            damaged += 1
            data = DAMAGES[damaged % len(DAMAGES)](data)
            if damaged % MISSING == 0:
                continue
        path.write_bytes(data)
    uris += chance.choices(uris, k=images - files)
    chance.shuffle(uris)
    return uris


def save_model(folder: Path) -> None:
    """A SavedModel from [-1, 16, 16, 3] to `output` [-1, 10] and `features` [-1, 8], with fixed random weights."""
    import tensorflow as tf

    random_numbers = np.random.default_rng(7)
    inputs = SIZE * SIZE * 3

    class Small(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(random_numbers.normal(0, inputs**-0.5, (inputs, 8)).astype(np.float32))
            self.last = tf.Variable(random_numbers.normal(0, 2, (8, CLASSES)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="input")])
        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            features = tf.tanh(tf.reshape(images, [-1, inputs]) @ self.first)
            return {"output": features @ self.last, "features": features}

    module = Small()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def write_config(path: Path, uris: list[str], model: Path, output: Path, batch_size: int, shard_size: int) -> None:
    """Writes the config of a run over `uris`, and the list of them beside it."""
    listing = path.with_suffix(".txt")
    listing.write_text("\n".join(uris) + "\n")
    values = {"uris": listing, "model": model, "output": output, "batch_size": batch_size, "shard_size": shard_size}
    path.write_text(CONFIG.format(size=SIZE, **values))
