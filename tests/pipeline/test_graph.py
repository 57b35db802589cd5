"""The shape of the dataflow: one line, one fused stage after the Reshuffle, a commit as soon as a shard is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.translations import Stage
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

from pipeline.config import RunConfig, load_config
from pipeline.graph import label, model_spec
from pipeline.plan import make_plan
from pipeline.record import RunRecord
from pipeline.runners import runner_and_options
from tests.pictures import COLOURS
from tests.pipeline.running import expected_row, parts_of, read_rows
from transforms.classify import ClassifyImages
from transforms.decode_images import DecodeImages
from transforms.read import read_bytes
from transforms.records import Columns, Shard
from transforms.storage import LocalStorage
from transforms.write_shards import WriteShards

COLUMNS = Columns(top_k=3)
SHARDS = [Shard(0, 0, 4), Shard(0, 1, 4), Shard(0, 2, 2)]


@pytest.fixture
def config(colour_config: Path, picture_folder: Path) -> RunConfig:
    assert picture_folder.exists()
    return load_config(colour_config)


@pytest.fixture
def record(config: RunConfig, colour_model: Path) -> RunRecord:
    plan = make_plan(config.input.paths, config.output.path, batch_size=2, shard_size=4)
    return RunRecord(config.output.path, config.resolved(), str(colour_model), {}, plan, {})


def graph_of(config: RunConfig, record: RunRecord) -> beam_runner_api_pb2.Pipeline:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    label(pipeline, config, record, SHARDS, COLUMNS, COLOURS)
    return pipeline.to_runner_api(default_environment=EmbeddedPythonEnvironment.default())


def primitives(proto: beam_runner_api_pb2.Pipeline) -> Iterator[tuple[str, beam_runner_api_pb2.PTransform]]:
    """(name, transform) of what is executed, composites left out."""
    for transform in proto.components.transforms.values():
        if not transform.subtransforms and transform.inputs != transform.outputs:
            yield transform.unique_name, transform


def names(stage: Stage) -> list[str]:
    return [transform.unique_name for transform in stage.transforms]


def test_everything_after_the_reshuffle_is_one_fused_stage(config: RunConfig, record: RunRecord) -> None:
    _, stages = FnApiRunner().create_stages(graph_of(config, record))
    steps = ["DecodeImages/Decode", "ClassifyImages/Classify", "WriteShards/Write"]
    (working,) = [stage for stage in stages if set(steps) & set(names(stage))]
    assert set(steps) < set(names(working))
    assert stages[-1] is working
    # All that comes into the stage or leaves it goes through its source: the shards, grouped by the Reshuffle.
    edges = [t.unique_name for t in working.transforms if t.spec.urn.startswith("beam:runner:")]
    assert len(edges) == 1
    assert edges[0].startswith("Spread/")


def test_after_the_reshuffle_there_is_one_line(config: RunConfig, record: RunRecord) -> None:
    proto = graph_of(config, record)
    after = {name: transform for name, transform in primitives(proto) if name.startswith(("Decode", "Class", "Write"))}
    assert sorted(after) == ["ClassifyImages/Classify", "DecodeImages/Decode", "WriteShards/Write"]
    for transform in after.values():
        assert transform.spec.urn == "beam:transform:pardo:v1"
        payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        assert len(transform.inputs) == len(transform.outputs) == 1
        assert not payload.side_inputs
        assert not payload.state_specs
        assert not payload.timer_family_specs
    assert len({transform.environment_id for transform in after.values()}) == 1
    hints = [environment.resource_hints for environment in proto.components.environments.values()]
    assert all(not hint for hint in hints)


def test_batches_have_a_coder_that_does_not_pickle_to_estimate(config: RunConfig, record: RunRecord) -> None:
    import numpy as np

    from transforms.records import ImageBatch, LabelledBatch

    graph_of(config, record)
    batch = ImageBatch(SHARDS[0], np.zeros((2, 8, 8, 3), np.float32), [], [])
    coder = beam.coders.registry.get_coder(ImageBatch)
    assert coder.estimate_size(batch) == 2 * 8 * 8 * 3 * 4
    batch.rows.append(threading.Lock())  # nothing can pickle that
    estimated, _ = coder.get_impl().get_estimated_size_and_observables(batch, nested=True)  # as Beam's counters do
    assert estimated >= 2 * 8 * 8 * 3 * 4
    batch.rows.clear()
    assert coder.decode(coder.encode(batch)).images.shape == (2, 8, 8, 3)
    assert beam.coders.registry.get_coder(LabelledBatch).estimate_size(LabelledBatch(SHARDS[0], [])) < 10_000


@pytest.mark.parametrize("workers", [1, 2])
def test_the_graph_yields_the_shards_it_covered(
    config: RunConfig, record: RunRecord, picture_folder: Path, workers: int
) -> None:
    runner, options = runner_and_options("DirectRunner", {"direct_num_workers": workers})
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        covered = label(pipeline, config, record, SHARDS, COLUMNS, COLOURS)
        assert_that(covered, equal_to(SHARDS))
    assert read_rows(Path(record.output)) == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]


def test_without_shards_nothing_is_written(config: RunConfig, record: RunRecord) -> None:
    runner, options = runner_and_options("DirectRunner", {})
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        assert_that(label(pipeline, config, record, [], COLUMNS, COLOURS), equal_to([]))
    assert parts_of(Path(record.output)) == []


# A part is there before the next shard's first image has been read.


class _Watched:
    """What `read_when_committed` knows: Beam pickles steps, so it cannot be an argument."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.first: int | None = None
        self.committed = threading.Event()
        self.waited: set[int] = set()


_watched = _Watched()


def read_when_committed(uri: str, max_bytes: int) -> bytes:
    """Reads; but images of shards after the first only once the first shard's part is there."""
    shard = int(Path(uri).stem) // 4
    with _watched.guard:
        if _watched.first is None:
            _watched.first = shard
    if shard != _watched.first:
        assert _watched.committed.wait(timeout=30), "the first shard's part is not there"
        _watched.waited.add(shard)
    return read_bytes(uri, max_bytes)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_is_committed_before_the_next_shard_begins(
    config: RunConfig, record: RunRecord, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    watched = _Watched()
    monkeypatch.setitem(read_when_committed.__globals__, "_watched", watched)
    real = LocalStorage.put_if_absent

    def put_if_absent(self: LocalStorage, name: str, data: bytes) -> bool:
        done = real(self, name, data)
        if name == f"predictions/00000/part-0000{watched.first}.parquet":
            assert self.exists(name)
            watched.committed.set()
        return done

    monkeypatch.setattr(LocalStorage, "put_if_absent", put_if_absent)
    runner, options = runner_and_options("DirectRunner", {"direct_num_workers": workers})
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(SHARDS)
            | "Spread" >> beam.Reshuffle()
            | "DecodeImages" >> DecodeImages(record.output, config.preprocessing(), 2, read=read_when_committed)
            | "ClassifyImages" >> ClassifyImages(model_spec(config, record.model), "softmax", COLUMNS)
            | "WriteShards" >> WriteShards(record.output, COLUMNS, COLOURS, 0, "plan", "run")
        )
    assert [row["status"] for row in read_rows(Path(record.output))] == ["ok"] * 10
    assert watched.waited == {0, 1, 2} - {watched.first}
