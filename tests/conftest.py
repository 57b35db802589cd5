"""What the tests share: a model whose answer can be told from the pixels, and images to go with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.pictures import COLOURS, colour_of, picture_bytes

if TYPE_CHECKING:
    from tests.object_store import ObjectStore

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests wait for processes, stores and browsers a quarter of the time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Ten pictures, 000.png to 009.png, of the colours `colour_of` gives."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    return folder


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel from [-1, 8, 8, 3] to the mean of each channel: logits [-1, 3], and features [-1, 3] as well."""
    import tensorflow as tf

    class Colour(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = tf.Variable(np.float32(0.1))

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="input")])
        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            means = tf.reduce_mean(images, [1, 2])
            return {"output": means * self.gain, "features": means}

    module = Colour()
    folder = tmp_path_factory.mktemp("models") / "colour"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


@pytest.fixture(scope="session")
def colour_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels of the colour model."""
    path = tmp_path_factory.mktemp("labels") / "colours.txt"
    path.write_text("\n".join(COLOURS) + "\n")
    return path


@pytest.fixture
def colour_config(tmp_path: Path, colour_model: Path, colour_labels: Path) -> Path:
    """A config that labels `photos/` beside it with the colour model, in shards of 4 and batches of 2.

    Without report.html, which takes as long as such a run itself.
    """
    path = tmp_path / "colour.yaml"
    path.write_text(
        f"""
input: {{path: {tmp_path}/photos}}
model: {{handle: {colour_model}, outputs: {{logits: output, embedding: features}}, labels: {colour_labels}}}
image: {{size: [8, 8], scale: 1.0, mean: [0, 0, 0], std: [1, 1, 1]}}
batch: {{size: 2}}
output: {{path: {tmp_path}/out, top_k: 3}}
run: {{shard_size: 4}}
report: {{html: false}}
"""
    )
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """An S3 server with a bucket, shared by the tests of a session."""
    from tests.object_store import S3Server

    with S3Server().running() as server:
        yield server


@pytest.fixture(scope="session")
def google_server() -> Iterator[ObjectStore]:
    """A Google Cloud Storage server with a bucket, shared by the tests of a session."""
    from tests.object_store import GoogleServer

    with GoogleServer().running() as server:
        yield server


@pytest.fixture
def object_store(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The S3 server, and the environment that leads boto3 to it."""
    yield from _led_to(s3_server, monkeypatch)


@pytest.fixture
def google_store(google_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The Google server, and the environment that leads its client to it."""
    yield from _led_to(google_server, monkeypatch)


def _led_to(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.well()
    yield server
    server.well()
