"""TensorFlow 2.16 leaks a tensor whenever it makes one in Python of bytes or numbers: no image may cost one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import pytest

from tests.pictures import picture_bytes
from transforms.codecs import bmp, gif, jpeg, png, trusted
from transforms.header import read_header
from transforms.preprocessing import Preprocessing
from transforms.resize import resize

pytestmark = pytest.mark.usefixtures("quick_collections")
TIMES = 200
A_TENSOR = 2  # blocks of memory
WHITE = (255, 255, 255)


def blocks_kept(work: Callable[[], object]) -> float:
    """Blocks of memory that each of many calls leaves allocated; the first calls also fill caches."""
    return min(_blocks_kept(work) for _ in range(3))


def _blocks_kept(work: Callable[[], object]) -> float:
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(TIMES):
        work()
    gc.collect()
    return (sys.getallocatedblocks() - before) / TIMES


def test_the_leak_is_there_to_be_noticed() -> None:
    import tensorflow as tf

    assert blocks_kept(lambda: tf.io.decode_png(picture("PNG"))) >= A_TENSOR


def picture(format: str) -> bytes:
    return picture_bytes((10, 20, 30), (40, 30), format)


DECODERS: dict[str, Callable[[], object]] = {
    "png": lambda: png.decode(picture("PNG"), read_header(picture("PNG")), WHITE),
    "gif": lambda: gif.decode(picture("GIF"), read_header(picture("GIF")), WHITE),
    "bmp": lambda: bmp._tensorflow(picture("BMP")),
    "jpeg": lambda: jpeg._tensorflow(picture("JPEG"), 1),
    "trusted jpeg": lambda: trusted.decode(picture("JPEG"), read_header(picture("JPEG")), 1, WHITE),
}


@pytest.mark.parametrize("name", DECODERS)
def test_decoding_keeps_nothing(name: str) -> None:
    assert blocks_kept(DECODERS[name]) < A_TENSOR / 4


@pytest.mark.parametrize("geometry", ["stretch", "resize_crop", "crop_resize", "pad"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_keeps_nothing(geometry: str, resample: str, antialias: bool) -> None:
    spec = Preprocessing(16, 16, geometry=geometry, fraction=0.875, resample=resample, antialias=antialias)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 45, 3), np.uint8)
    assert blocks_kept(lambda: resize(pixels, spec)) < A_TENSOR / 4
