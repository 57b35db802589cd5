"""From a shard to batches: what is in which slot, which rows fail, and when nothing is done at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from tests.pictures import colour_of, picture_bytes
from transforms.attempts import mark_name
from transforms.decode_images import DecodeImages, _DecodeImages, open_picture, shard_rows
from transforms.errors import ImageError
from transforms.parts import part_name
from transforms.preprocessing import Preprocessing
from transforms.records import ImageBatch, Row, Shard
from transforms.storage import LocalStorage

SPEC = Preprocessing(height=2, width=3, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
FIRST, SECOND = Shard(0, 0, 7), Shard(0, 1, 3)


@pytest.fixture
def root(picture_folder: Path, tmp_path: Path) -> Path:
    """An output with a plan of ten pictures, seven in the first shard."""
    uris = [str(picture_folder / f"{n:03d}.png") for n in range(10)]
    table = pa.table({"row": pa.array(range(100, 110), pa.int64()), "uri": uris})
    folder = tmp_path / "out"
    (folder / "plan").mkdir(parents=True)
    pq.write_table(table, folder / "plan" / "plan-00000.parquet", row_group_size=7)
    return folder


def decoder(root: Path, **changes: Any) -> _DecodeImages:
    dofn = _DecodeImages(DecodeImages(str(root), SPEC, 2, **{"slow_read": None, **changes}))
    dofn.setup()
    return dofn


def all_rows(batches: list[ImageBatch]) -> list[Row]:
    return sorted((row for batch in batches for row in (*batch.rows, *batch.finished)), key=lambda row: row.position)


def check_slots(batch: ImageBatch) -> None:
    """Each row's image is in its slot, and the slots after the last row are zero."""
    assert batch.images is not None
    assert batch.images.shape == (2, 2, 3, 3)
    assert batch.images.dtype == np.float32
    for slot, row in enumerate(batch.rows):
        assert (batch.images[slot] == np.array(colour_of(row.row - 100))).all()
    assert not batch.images[len(batch.rows) :].any()


def test_a_shard_becomes_full_batches_and_a_short_one(root: Path) -> None:
    batches = list(decoder(root).process(FIRST))
    assert [len(batch.rows) for batch in batches] == [2, 2, 2, 1]
    for batch in batches:
        assert batch.shard == FIRST
        assert batch.finished == []
        check_slots(batch)
    rows = all_rows(batches)
    assert [(row.row, row.position) for row in rows] == [(100 + n, n) for n in range(7)]
    for row in rows:
        data = Path(row.uri).read_bytes()
        assert (row.status, row.format, row.width, row.height) == ("ok", "png", 20, 16)
        assert (row.bytes, row.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_failed_images_take_no_slot(root: Path, picture_folder: Path) -> None:
    (picture_folder / "001.png").unlink()
    damaged = bytearray(picture_bytes(colour_of(3)))
    damaged[45] ^= 0xFF  # among the compressed pixels
    (picture_folder / "003.png").write_bytes(damaged)
    (picture_folder / "004.png").write_bytes(b"words")
    batches = list(decoder(root).process(FIRST))
    assert [len(batch.rows) for batch in batches if batch.images is not None] == [2, 2]
    for batch in batches:
        if batch.images is not None:
            check_slots(batch)
    found = {row.position: (row.error_stage, row.error_type) for row in all_rows(batches) if row.status == "failed"}
    assert found == {1: ("read", "not_found"), 3: ("decode", "corrupt"), 4: ("decode", "unsupported_format")}
    row = all_rows(batches)[3]
    assert (row.format, row.width, row.height, row.bytes) == ("png", 20, 16, len(damaged))


def test_a_shard_of_broken_images_has_no_pixels(root: Path, picture_folder: Path) -> None:
    for path in picture_folder.iterdir():
        path.write_bytes(b"")
    batches = list(decoder(root).process(SECOND))
    assert all(batch.images is None and batch.rows == [] for batch in batches)
    assert [row.error_type for row in all_rows(batches)] == ["empty"] * 3


def test_only_some_positions_of_a_shard(root: Path) -> None:
    again = Shard(0, 0, 3, generation=1, positions=(0, 4, 6))
    batches = list(decoder(root).process(again))
    assert [(row.row, row.position) for row in all_rows(batches)] == [(100, 0), (104, 4), (106, 6)]
    assert [row.position for row in shard_rows(str(root), again)] == [0, 4, 6]


def test_a_shard_with_a_part_is_left_alone(root: Path) -> None:
    LocalStorage(str(root)).put_if_absent(part_name(FIRST), b"a part")
    reads: list[str] = []

    def read(uri: str, max_bytes: int) -> bytes:
        reads.append(uri)
        raise AssertionError("nothing may be read")

    assert list(decoder(root, read=read).process(FIRST)) == []
    assert reads == []
    later = Shard(0, 0, 1, generation=1, positions=(0,))
    assert len(list(decoder(root).process(later))) == 1


def test_read_and_decode_can_be_others(root: Path) -> None:
    def read(uri: str, max_bytes: int) -> bytes:
        assert max_bytes == SPEC.max_bytes
        return Path(uri).stem.encode()

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        if data == b"008":
            raise ImageError("decode", "corrupt", "damaged")
        return np.full((spec.height, spec.width, 3), int(data), np.uint8)

    (batch,) = decoder(root, read=read, decode=decode).process(SECOND)
    assert batch.images is not None
    assert batch.images[:, 0, 0, 0].tolist() == [row.row - 100 for row in batch.rows]
    assert sorted(row.row for row in batch.rows) == [107, 109]
    assert [(row.row, row.error_message) for row in batch.finished] == [(108, "damaged")]


def test_on_a_runner_with_its_counters(root: Path, picture_folder: Path) -> None:
    (picture_folder / "008.png").write_bytes(b"")
    LocalStorage(str(root)).put_if_absent(part_name(FIRST), b"a part")
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create([FIRST, SECOND]) | DecodeImages(str(root), SPEC, 2) | beam.Map(_check)
    result = pipeline.run()
    counters = {metric.key.metric.name: metric.committed for metric in result.metrics().query()["counters"]}
    expected = {"shards_started": 1, "shards_skipped": 1, "images_failed": 1}
    assert {name: counters.get(name) for name in expected} == expected


def _check(batch: ImageBatch) -> None:
    assert batch.shard == SECOND
    if batch.images is not None:
        check_slots(batch)


# Marks of attempts.


def marks(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.glob("attempts/*/*"))


def test_a_shard_is_marked_while_it_is_worked_on(root: Path) -> None:
    batches: Iterator[ImageBatch] = decoder(root).process(FIRST)
    next(batches)
    assert marks(root) == [mark_name(FIRST, 1)]
    list(batches)
    assert marks(root) == []


def test_an_error_downstream_withdraws_the_mark(root: Path) -> None:
    batches = decoder(root).process(FIRST)
    next(batches)
    batches.close()
    assert marks(root) == []


def test_marks_of_deaths_go_once_the_shard_is_done(root: Path) -> None:
    storage = LocalStorage(str(root))
    for attempt in (1, 2):
        storage.put_if_absent(mark_name(FIRST, attempt), b"")
    batches = decoder(root).process(FIRST)  # no isolation is given: as ever
    assert next(batches).images is not None
    assert marks(root) == [mark_name(FIRST, attempt) for attempt in (1, 2, 3)]
    list(batches)
    assert marks(root) == []


# Slow reads.


class SlowReads:
    """Reads files, but some of them not before they are released."""

    def __init__(self, *slow: int) -> None:
        self.slow = {f"{number:03d}": threading.Event() for number in slow}

    def __call__(self, uri: str, max_bytes: int) -> bytes:
        event = self.slow.get(Path(uri).stem)
        assert event is None or event.wait(60)
        return Path(uri).read_bytes()

    def release(self) -> None:
        for event in self.slow.values():
            event.set()


def positions(batches: Iterable[ImageBatch], shard: Shard) -> list[int]:
    return sorted(row.position for batch in batches if batch.shard == shard for row in (*batch.rows, *batch.finished))


def rest_of(dofn: _DecodeImages) -> list[ImageBatch]:
    return [windowed.value for windowed in dofn.finish_bundle()]


def test_a_slow_read_does_not_keep_the_next_shard_waiting(root: Path) -> None:
    reads = SlowReads(1, 4)
    dofn = decoder(root, read=reads, slow_read=0.2)
    early = list(dofn.process(FIRST))
    assert len(positions(early, FIRST)) == 4  # the fifth waits for another to make up a batch
    between = list(dofn.process(SECOND))
    assert positions(between, SECOND) == [0, 1, 2]
    assert positions(between, FIRST) == []
    assert marks(root) == [mark_name(FIRST, 1)]
    reads.release()
    late = rest_of(dofn)
    assert {1, 4} < set(positions(late, FIRST))
    assert positions([*early, *late], FIRST) == list(range(7))
    for batch in (*early, *late):
        check_slots(batch)
    assert marks(root) == []
    assert rest_of(dofn) == []


def test_what_has_come_of_a_shard_that_waits_is_passed_on_between_others(root: Path) -> None:
    reads = SlowReads(1)
    dofn = decoder(root, read=reads, slow_read=0.2)
    list(dofn.process(FIRST))
    stream = dofn.process(SECOND)
    next(stream)
    reads.release()
    found: list[ImageBatch] = []
    while not positions(found, FIRST):
        found += dofn._arrived()
    found += stream
    assert 1 in positions(found, FIRST)
    assert marks(root) == []


def test_how_many_shards_wait_depends_on_what_they_hold(root: Path) -> None:
    assert decoder(root)._most_waiting == 32
    for batch_size, expected in ((32, 13), (256, 2)):
        assert _DecodeImages(DecodeImages(str(root), Preprocessing(), batch_size))._most_waiting == expected


def test_only_so_many_shards_wait(root: Path) -> None:
    reads = SlowReads(1, 8)
    dofn = decoder(root, read=reads, slow_read=0.2)
    dofn._most_waiting = 1
    list(dofn.process(FIRST))
    reads.slow["001"].set()
    found = list(dofn.process(SECOND))
    assert 1 in positions(found, FIRST)
    assert marks(root) == [mark_name(SECOND, 1)]
    reads.release()
    assert 1 in positions(rest_of(dofn), SECOND)


@pytest.mark.parametrize("end", ["error downstream", "next bundle", "teardown"])
def test_shards_that_wait_are_left_in_order_when_the_bundle_fails(root: Path, end: str) -> None:
    reads = SlowReads(1)
    dofn = decoder(root, read=reads, slow_read=0.2)
    list(dofn.process(FIRST))
    assert marks(root) == [mark_name(FIRST, 1)]
    if end == "error downstream":
        stream = dofn.process(SECOND)
        next(stream)
        stream.close()
    elif end == "next bundle":
        dofn.start_bundle()
    else:
        dofn.teardown()
    assert marks(root) == []
    assert rest_of(dofn) == []
    reads.release()


def read_slowly(uri: str, max_bytes: int) -> bytes:
    """Every third file takes longer than a slow read."""
    if int(Path(uri).stem) % 3 == 1:
        threading.Event().wait(0.3)
    return Path(uri).read_bytes()


def test_slow_reads_on_a_runner(root: Path) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    rows = pipeline | beam.Create([FIRST, SECOND]) | DecodeImages(str(root), SPEC, 2, read_slowly) | beam.FlatMap(_rows)
    assert_that(rows, equal_to(list(range(100, 110))))
    pipeline.run().wait_until_finish()
    assert marks(root) == []


def _rows(batch: ImageBatch) -> list[int]:
    return [row.row for row in (*batch.rows, *batch.finished)]


# One picture.


def test_a_picture_is_opened_and_its_header_noted() -> None:
    row = Row(0, 0, "x")
    pixels = open_picture(picture_bytes(colour_of(5), (30, 40), "JPEG"), row, SPEC)
    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - colour_of(5)).max() <= 2
    assert (row.format, row.width, row.height) == ("jpeg", 30, 40)


def test_a_picture_beyond_the_limit_is_not_decoded_but_its_size_is_noted() -> None:
    row = Row(0, 0, "x")
    small = Preprocessing(height=2, width=3, max_pixels=1199)
    with pytest.raises(ImageError) as caught:
        open_picture(picture_bytes(colour_of(5), (30, 40)), row, small)
    assert (caught.value.stage, caught.value.type) == ("decode", "too_many_pixels")
    assert (row.format, row.width, row.height) == ("png", 30, 40)
