"""Folders of photos to measure with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "imagenet_sample" / "images"
DIFFERENT = 200  # generated photos before they repeat


def photo_folder(folder: Path, count: int) -> Path:
    """Fill `folder` with `count` JPEG photos, each file a link to one of a few hundred different ones.

    ImageNet photos beside the checkout where they are present, else generated ones of the same sizes (about
    500 x 375 pixels and 110 kB, which is what decides the time).
    """
    originals = sorted(SAMPLE.glob("*.JPEG")) or _generated(folder.parent / "generated")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        original = originals[number % len(originals)]
        os.symlink(original, folder / f"{number:06d}_{original.stem}.jpg")
    return folder


def photo_kind() -> str:
    """What `photo_folder` fills a folder with, for a table's caption."""
    return "ImageNet photos, 200 different ones" if SAMPLE.exists() else f"generated photos, {DIFFERENT} different ones"


def _generated(folder: Path) -> list[Path]:
    if not folder.exists():
        folder.mkdir(parents=True)
        for number in range(DIFFERENT):
            _generate(number).save(folder / f"{number:04d}.jpg", quality=92, subsampling=2)
    return sorted(folder.glob("*.jpg"))


def _generate(number: int) -> Image.Image:
    """Noise at several scales: compresses about as badly as a photo of that size does."""
    random = np.random.default_rng(number)
    width, height = [(500, 375), (500, 333), (375, 500), (640, 480)][number % 4]
    pixels = np.zeros((height, width, 3))
    for cells, strength in ((4, 90), (16, 50), (64, 35), (200, 35)):
        noise = (random.random((cells * height // width + 1, cells, 3)) * 255).astype(np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(layer, np.float64) - 127.5) / 127.5 * strength
    return Image.fromarray(np.clip(pixels + 127.5, 0, 255).astype(np.uint8))
