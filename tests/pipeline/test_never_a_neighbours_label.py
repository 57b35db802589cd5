"""Every row has the digest of the bytes at its own URI and the label of its image alone, whatever happens around it.

Pictures that decode fast and slow, damaged and missing ones, ones that the model fails on, twice the same URI, short
batches, several decode threads and two shards at a time: a row must never get what belongs to another.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mixed import SIZE, mixed_set, picture, save_model
from pipeline.plan import make_plan
from pipeline.runners import runner_and_options
from tests.pictures import picture_bytes
from transforms import classify
from transforms.ahead import batches
from transforms.classify import ClassifyImages, classify_images, fill_rows
from transforms.decode_images import DecodeImages, open_picture
from transforms.model import ModelCallError, ModelSpec, load_classifier
from transforms.preprocessing import Preprocessing
from transforms.read import read_bytes
from transforms.records import Columns, Row, Shard, register_coders
from transforms.write_shards import WriteShards

SPEC = Preprocessing(height=SIZE, width=SIZE, scale=127.5, mean=(1, 1, 1), std=(1, 1, 1))
COLUMNS = Columns(top_k=3, logits=10, embedding=8)
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILES = 60
SETTINGS = [(batch_size, threads) for batch_size in (1, 4, 32) for threads in (1, 8)]


class Moody:
    """The model, but it fails on all-white pictures and says NaN of all-black ones."""

    def __init__(self, spec: ModelSpec) -> None:
        self._model = load_classifier(spec)
        self.lengths, self.blank = self._model.lengths, self._model.blank

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if (images == 1).all(axis=(1, 2, 3)).any():
            raise ModelCallError("it does not like white")
        outputs = self._model(images)
        black = (images == -1).all(axis=(1, 2, 3))
        return {name: np.where(black[:, None], np.float32("nan"), values) for name, values in outputs.items()}


@dataclass(frozen=True)
class Collection:
    """URIs of every kind, and the row of each when it is labelled alone.

    Attributes:
        uris: what the model takes, or what fails before it.
        moody: what the model fails on.
        alone: uri -> row.
        model: directory of the model.
    """

    uris: list[str]
    moody: list[str]
    alone: dict[str, Row]
    model: Path

    def spec(self, batch_size: int) -> ModelSpec:
        outputs = (("embedding", "features"), ("logits", "output"))
        return ModelSpec(str(self.model), "serving_default", None, outputs, SPEC.model_shape, "float32", batch_size)


def label(rows: list[Row], model: Any, batch_size: int, threads: int) -> list[Row]:
    """Rows labelled without Beam, in the order of their positions."""
    done = []
    for batch in batches(rows, SPEC, batch_size, read_bytes, open_picture, threads):
        if batch.images is not None:
            outputs, errors = classify_images(model, batch.images, len(batch.rows))
            fill_rows(batch.rows, outputs, errors, "softmax", COLUMNS)
        done += [*batch.rows, *batch.failed]
    return sorted(done, key=lambda row: row.position)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("collection")
    uris = mixed_set(folder / "photos", FILES, seed=3, broken=0.2, twice=0)
    for number in range(4):  # pictures that take a hundred times as long as their neighbours
        path = folder / f"large-{number}.png"
        path.write_bytes(picture(900 + number, "png", largest=1500))
        uris.append(str(path))
    moody = []
    for name, colour in (("white", (255, 255, 255)), ("black", (0, 0, 0))):
        for side in (16, 31):
            path = folder / f"{name}-{side}.png"
            path.write_bytes(picture_bytes(colour, (side, side)))
            moody.append(str(path))
    save_model(folder / "model")
    found = Collection(uris, moody, {}, folder / "model")
    model = Moody(found.spec(1))
    for uri in [*uris, *moody]:
        found.alone[uri] = label([Row(0, 0, uri)], model, 1, 1)[0]
    kinds = {row.error_type for row in found.alone.values()}
    assert {None, "not_found", "empty", "truncated", "model_error", "non_finite"} <= kinds
    return found


@pytest.fixture(scope="module")
def models(collection: Collection) -> dict[int, Moody]:
    return {batch_size: Moody(collection.spec(batch_size)) for batch_size in (1, 4, 32)}


def assert_same(row: Row, uri: str, alone: Row) -> None:
    assert row.uri == uri
    data = Path(uri).read_bytes() if Path(uri).exists() else None
    assert row.sha256 == (None if data is None else hashlib.sha256(data).hexdigest())
    for name in ("status", "error_stage", "error_type", "error_message", "bytes", "width", "height", "format"):
        assert getattr(row, name) == getattr(alone, name), name
    if alone.classes is None:
        assert row.classes is None
        return
    assert row.classes is not None
    assert row.classes.tolist() == alone.classes.tolist()
    for name in ("scores", "logits", "embedding"):
        np.testing.assert_allclose(getattr(row, name), getattr(alone, name), rtol=0, atol=1e-4, err_msg=name)


def numbered(uris: Sequence[str]) -> list[Row]:
    return [Row(number, number, uri) for number, uri in enumerate(uris)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_two_shards_at_a_time(collection: Collection, models: dict[int, Moody], data: st.DataObject) -> None:
    batch_size, threads = data.draw(st.sampled_from(SETTINGS))
    one_uri = st.sampled_from(collection.uris) | st.sampled_from(collection.moody)
    shards = [data.draw(st.lists(one_uri, max_size=70)) for _ in range(2)]
    together = threading.Barrier(len(shards))

    def label_shard(uris: list[str]) -> list[Row]:
        together.wait(timeout=60)
        return label(numbered(uris), models[batch_size], batch_size, threads)

    with ThreadPoolExecutor(len(shards)) as pool:
        for uris, rows in zip(shards, pool.map(label_shard, shards), strict=True):
            assert [row.position for row in rows] == list(range(len(uris)))
            for row, uri in zip(rows, uris, strict=True):
                assert_same(row, uri, collection.alone[uri])


@pytest.mark.parametrize(("batch_size", "threads"), SETTINGS)
def test_through_the_pipeline(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, threads: int
) -> None:
    monkeypatch.setattr(classify, "load_classifier", Moody)
    uris = []
    for number, moody in enumerate(collection.moody):
        uris += [*collection.uris[number::4], moody, *collection.uris[:3]]
    listing = tmp_path / "uris.txt"
    listing.write_text("\n".join(uris) + "\n")
    plan = make_plan([str(listing)], tmp_path / "out", batch_size=batch_size, shard_size=21)
    shards = [Shard(0, number, plan.files[0].shard_rows(number)) for number in range(plan.shards)]
    register_coders()
    runner, options = runner_and_options("DirectRunner", {})
    output = str(tmp_path / "out")
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(shards)
            | beam.Reshuffle()
            | DecodeImages(output, SPEC, batch_size, decode_threads=threads)
            | ClassifyImages(collection.spec(batch_size), "softmax", COLUMNS)
            | WriteShards(output, COLUMNS, LABELS, 0, plan.fingerprint, "run")
        )
    table = pq.read_table(tmp_path / "out" / "predictions").sort_by("row")
    assert table.column("row").to_pylist() == list(range(len(uris)))
    for found, uri in zip(table.to_pylist(), uris, strict=True):
        alone = collection.alone[uri]
        row = Row(found["row"], found["row"], found["uri"], found["width"], found["height"], found["format"])
        row.bytes, row.sha256 = found["bytes"], found["sha256"]
        row.error_stage, row.error_type = found["error_stage"], found["error_type"]
        row.error_message = found["error_message"]
        assert found["status"] == alone.status
        if found["label"] is not None:
            best = found["top_k"]
            row.classes = np.array([entry["label_index"] for entry in best])
            row.scores = np.array([entry["score"] for entry in best])
            row.logits, row.embedding = np.array(found["logits"]), np.array(found["embedding"])
            assert [entry["label"] for entry in best] == [LABELS[index] for index in row.classes]
            assert (found["label"], found["label_index"]) == (best[0]["label"], best[0]["label_index"])
        assert_same(row, uri, alone)
