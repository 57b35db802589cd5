"""Images and a model that cost next to nothing, so that what is left of a run is hublabel itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, CLASSES, DIFFERENT = 16, 1000, 50


def settings(model: Path) -> list[str]:
    """What makes configs/quickstart.yaml label tiny images with the tiny model at `model`."""
    image = (f"image.size=[{SIZE}, {SIZE}]", "image.geometry=stretch", "image.fraction=1.0", "image.resample=bilinear")
    return [f"model.handle={model}", *image]


def tiny_images(folder: Path, count: int) -> Path:
    """Fill `folder` with `count` JPEG files of 16 x 16 pixels, links to a few different ones."""
    originals = folder.parent / f"{folder.name}-originals"
    originals.mkdir(parents=True, exist_ok=True)
    for number in range(DIFFERENT):
        pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(originals / f"{number}.jpg")
    folder.mkdir()
    for number in range(count):
        os.symlink(originals / f"{number % DIFFERENT}.jpg", folder / f"{number:07d}.jpg")
    return folder


def tiny_model(folder: Path) -> Path:
    """Save a model that multiplies the mean of each channel with a matrix: 1,000 logits."""
    import tensorflow as tf

    from pipeline.models.saved_model import save_classifier

    weights = {"kernel": np.random.default_rng(0).normal(size=(3, CLASSES)).astype(np.float32)}
    save_classifier(
        lambda images, known: tf.matmul(tf.reduce_mean(images, [1, 2]), known["kernel"]), weights, (SIZE, SIZE), folder
    )
    return folder
