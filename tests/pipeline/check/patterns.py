"""A classifier whose answers hang on each part of the preprocessing, and pictures to go with it.

A class is a pattern of 8 x 8 coloured blocks. For each pattern its transposition, its twin with red and blue exchanged,
and all of them at three contrasts are classes too: so a model that sees transposed pictures, another order of colours
or other values takes each picture for another class. The pattern fills the middle square of a wide picture, and a
pattern of another class the rest: so a picture that is not cropped shows another class as well.

The model is nearest neighbour: logits = -|x - template|^2 + |x|^2, linear in x.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16  # height and width of what the model takes
SIDE = 48  # pixels of the middle square; the picture is twice as wide
CONTRASTS = (0.25, 0.5, 1.0)
RIGHT = """
  size: [16, 16]
  geometry: crop_resize
  fraction: 1.0
  resample: bilinear
  antialias: false
  scale: 127.5
  mean: [1.0, 1.0, 1.0]
  std: [1.0, 1.0, 1.0]
"""


def patterns() -> np.ndarray:
    """float64 [24, 8, 8, 3] of -1 .. 1."""
    chance = np.random.default_rng(7)
    found = []
    for _ in range(2):
        block = chance.choice([-1.0, 1.0], (8, 8, 3))
        for turned in (block, block.transpose(1, 0, 2)):
            for coloured in (turned, turned[..., ::-1]):
                found += [contrast * coloured for contrast in CONTRASTS]
    return np.array(found)


def enlarged(pattern: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3], each block as many pixels."""
    return np.kron(pattern, np.ones((side // 8, side // 8, 1)))


def save_model(folder: Path, first_class: int = 0) -> Path:
    """The classifier as a SavedModel, with as many classes that are never the best before the patterns'."""
    import tensorflow as tf

    templates = np.array([enlarged(pattern, SIZE) for pattern in patterns()]).reshape(24, -1)
    weights, bias = 2 * templates.T, -(templates**2).sum(axis=1)
    weights = np.concatenate([np.zeros((len(weights), first_class)), weights], axis=1)
    bias = np.concatenate([np.full(first_class, -1e6), bias])

    module = tf.Module()
    module.weights, module.bias = (tf.Variable(value.astype(np.float32) / 100) for value in (weights, bias))

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="input")])
    def serve(input: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"output": tf.matmul(tf.reshape(input, [-1, SIZE * SIZE * 3]), module.weights) + module.bias}

    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def write_pictures(folder: Path, count: int = 96) -> Path:
    """Pictures 000.png, ... of class number modulo 24, and their truth as a CSV; returns the CSV."""
    folder.mkdir()
    chance = np.random.default_rng(1)
    found = patterns()
    for number in range(count):
        wide = np.concatenate([enlarged(found[(number + shift) % 24], SIDE) for shift in (7, 0, 7)], axis=1)
        levels = 127.5 * (1 + wide[:, SIDE // 2 : -SIDE // 2]) + chance.normal(0, 20, (SIDE, 2 * SIDE, 3))
        picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
        picture.save(folder / f"{number:03d}.png")
    with open(folder / "truth.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("uri", "label_index"), *((f"{number:03d}.png", number % 24) for number in range(count))]
        )
    return folder / "truth.csv"
