"""Bytes to model input on one core: ours against `tf.data`'s map of the same, as ratios of paired rounds.

    python -m benchmarks.decode [PHOTOS] [--photos 100] [--rounds 7] [--write]

Both sides read the files beforehand, run in this one process on one core, and take turns round by round. What is
counted is the processor time of all threads, so that neighbours on a busy machine do not decide. `tf.data` maps a
traced function over the bytes, one call at a time, to float32 batches. Both contain the same libjpeg-turbo: its rate
alone, the last column divided by `tf.data`'s, is as high as the ratio could be.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table
from benchmarks.targets import write_target
from transforms.decode import decode_image
from transforms.header import check_limits, read_header
from transforms.preprocessing import Preprocessing
from transforms.resize import prepare

BATCH = 32
QUICKSTART = "crop_resize bicubic (quickstart)"
SETTINGS = {
    QUICKSTART: Preprocessing(
        geometry="crop_resize", fraction=0.875, resample="bicubic", scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3
    ),
    "stretch bilinear": Preprocessing(geometry="stretch"),
    "resize_crop bicubic antialias (timm)": Preprocessing(
        geometry="resize_crop", fraction=0.96, resample="bicubic", antialias=True
    ),
}


def ours(files: Sequence[bytes], spec: Preprocessing) -> np.ndarray:
    """Decode, resize and normalize into one batch after another; the last batch."""
    batch = np.zeros((BATCH, *spec.model_shape), np.float32)
    for number, data in enumerate(files):
        if number % BATCH == 0:
            batch = np.zeros((BATCH, *spec.model_shape), np.float32)
        header = read_header(data)
        check_limits(header, data, spec)
        prepare(decode_image(data, header, spec), spec, batch[number % BATCH])
    return batch


def theirs(files: Sequence[bytes], spec: Preprocessing) -> Callable[[], np.ndarray]:
    """The usual input pipeline: decode_jpeg, tf.image, arithmetic; batched. Returns what runs it once."""
    import tensorflow as tf

    mean, std = tf.constant(spec.mean, tf.float32), tf.constant(spec.std, tf.float32)

    def geometry(image: tf.Tensor) -> tf.Tensor:
        size = (spec.height, spec.width)
        if spec.geometry == "stretch":
            return tf.image.resize(image, size, spec.resample, antialias=spec.antialias)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        short = tf.cast(tf.minimum(height, width), tf.float32)
        if spec.geometry == "crop_resize":
            crop = tf.cast(spec.fraction * short, tf.int32)
            top, left = (height - crop + 1) // 2, (width - crop + 1) // 2
            image = tf.image.crop_to_bounding_box(image, top, left, crop, crop)
            return tf.image.resize(image, size, spec.resample, antialias=spec.antialias)
        scale = int(spec.height / spec.fraction) / short
        scaled = tf.cast(tf.cast(tf.stack([height, width]), tf.float32) * scale + 0.001, tf.int32)
        image = tf.image.resize(image, scaled, spec.resample, antialias=spec.antialias)
        return tf.image.resize_with_crop_or_pad(image, *size)

    def example(data: tf.Tensor) -> tf.Tensor:
        return (geometry(tf.io.decode_jpeg(data, channels=3)) / spec.scale - mean) / std

    dataset = tf.data.Dataset.from_tensor_slices(list(files)).map(example).batch(BATCH)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = dataset.with_options(options)

    def run() -> np.ndarray:
        last = np.zeros(())
        for batch in dataset.as_numpy_iterator():
            last = batch
        return last

    return run


def bare(files: Sequence[bytes]) -> None:
    """libjpeg-turbo and nothing else."""
    import simplejpeg

    for data in files:
        simplejpeg.decode_jpeg(data, "RGB")


def huffman(files: Sequence[bytes]) -> None:
    """libjpeg-turbo at an eighth of each side: it must read every coefficient, and there is hardly a pixel to make.

    For Huffman decoding a whole picture takes a little more: here of a block only the mean is stored.
    """
    import simplejpeg

    for data in files:
        simplejpeg.decode_jpeg(data, "RGB", min_height=1, min_width=1)


def milliseconds(work: Callable[[Sequence[bytes]], object], files: Sequence[bytes], rounds: int) -> float:
    """Processor time an image, the median of the rounds."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work(files)
        times.append(1000 * (time.process_time() - began) / len(files))
    return statistics.median(times)


def split(files: Sequence[bytes], rounds: int) -> str:
    """What libjpeg-turbo's time goes to, and the rest of the quickstart's way to the model's input, in words."""
    everything = milliseconds(lambda files: ours(files, SETTINGS[QUICKSTART]), files, rounds)
    whole, reading = milliseconds(bare, files, rounds), milliseconds(huffman, files, rounds)
    return (
        f"An image takes {everything:.2f} ms for the quickstart; libjpeg-turbo alone {whole:.2f}: {reading:.2f} "
        f"({reading / whole:.0%}) at an eighth of each side, which is Huffman decoding and little else, and "
        f"{whole - reading:.2f} more for the inverse DCT, chroma and colours of all pixels."
    )


def measure(files: Sequence[bytes], spec: Preprocessing, rounds: int) -> tuple[float, float, float, float, float]:
    """Images a processor second of ours, of `tf.data` and of libjpeg-turbo, and the first two's ratio and difference.

    Rates and ratio are medians over the rounds; the difference is that of the values, on average.
    """
    run = theirs(files, spec)
    used = len(files) % BATCH or BATCH
    difference = float(np.abs(ours(files, spec)[:used] - run()).mean())
    rates: list[tuple[float, ...]] = []
    for _ in range(rounds):
        times = [time.process_time()]
        for side in (lambda: ours(files, spec), run, lambda: bare(files)):
            side()
            times.append(time.process_time())
        rates.append(tuple(len(files) / (end - start) for start, end in pairwise(times)))
    ratio = statistics.median(mine / other for mine, other, _ in rates)
    mine, other, decoder = (statistics.median(side) for side in zip(*rates, strict=True))
    return mine, other, decoder, ratio, difference


def decode_table(found: dict[str, tuple[float, float, float, float, float]]) -> str:
    """What `measure` returned for each geometry, as Markdown."""
    rows = [
        [name, f"{mine:.0f}", f"{other:.0f}", f"**{ratio:.2f}**", f"{decoder / other:.2f}", f"{difference:.3f}"]
        for name, (mine, other, decoder, ratio, difference) in found.items()
    ]
    rates = ["hublabel, images/s", "tf.data, images/s", "ratio", "ratio of libjpeg-turbo alone"]
    return table(["one core", *rates, "mean difference of the values"], rows)


def report(photos: Path | None, count: int, rounds: int, write: bool) -> None:
    """Measure, print, and put the table into the page when `write`.

    Args:
        photos: a folder of JPEG files; None for those that the other benchmarks have.
    """
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as scratch:
        folder = photos or photo_folder(Path(scratch) / "photos", count)
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg")]
        files = [path.read_bytes() for path in paths[:count]]
    found = {name: measure(files, spec, rounds) for name, spec in SETTINGS.items()}
    kind = photo_kind() if photos is None else f"photos of {photos}"
    text = (
        f"{len(files)} photos ({kind}), medians of {rounds} rounds:\n\n{decode_table(found)}\n\n{split(files, rounds)}"
    )
    print(f"\n{text}\n")
    if write:
        replace_table("decode", text)
        write_target("decode", found[QUICKSTART][3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of JPEG files (default: the benchmarks' own)")
    parser.add_argument("--photos", dest="count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report(arguments.photos, arguments.count, arguments.rounds, arguments.write)


if __name__ == "__main__":
    main()
