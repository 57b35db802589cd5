"""Plans made in pieces: the rows of the launcher's plan, whatever the pieces."""

from __future__ import annotations

import io
import os
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.plan import make_plan
from transforms import manifest_lines, plan_files, plan_pieces
from transforms.locations import version_of
from transforms.manifest_lines import MAX_LINE_BYTES
from transforms.plan_lists import PlanLists
from transforms.plan_pieces import (
    ChangedListError,
    Piece,
    PieceCount,
    PieceFile,
    count_piece,
    cut,
    lay_out,
    load_count,
    load_files,
    piece_file,
    write_piece,
)
from transforms.storage import LocalStorage

PREFIX = "plan.partial/1"


def pieces_of(paths: list[Path], piece_bytes: int) -> list[Piece]:
    ranges = [(os.fsencode(path), *span) for path in paths for span in cut(path.stat().st_size, piece_bytes)]
    return [Piece(number, *found, version_of(found[0])) for number, found in enumerate(ranges)]


def planned_table(names: list[Path]) -> pa.Table:
    return pa.concat_tables([pq.read_table(name) for name in names])


def plan_in_pieces(pieces: list[Piece], root: Path, shard_size: int | None = None) -> pa.Table:
    """The rows of plan files made piece by piece, as one table."""
    storage = LocalStorage(str(root))
    counts = [count_piece(piece) for piece in pieces]
    layout = lay_out(counts, 2, shard_size)
    names: list[Path] = []
    for piece, count, first_row in zip(pieces, counts, layout.first_rows, strict=True):
        files = write_piece(piece, count.rows, first_row, layout.shard_size, storage, PREFIX)
        names += [root / f"{PREFIX}-{piece_file(piece.number, index)}" for index in range(len(files))]
    return planned_table(names)


a_line = st.lists(
    st.sampled_from(
        [b"a", b"/", b"..", b" ", b"\t", b"\r", "é".encode(), b"\xe9", b"\xf0\x9f", b"http://u:p@h/", b"file:///%41"]
    ),
    max_size=6,
).map(b"".join)
a_list = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(a_line, st.sampled_from([b"\n", b"\r\n"])).map(b"".join), max_size=12).map(b"".join),
    st.one_of(st.just(b""), a_line),
).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(a_list, min_size=1, max_size=3),
    piece_bytes=st.integers(1, 50),
    block=st.integers(1, 40),
    shard_size=st.integers(1, 5),
    shards_per_file=st.integers(1, 3),
)
def test_rows_numbers_and_uris_are_the_launchers(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[bytes],
    piece_bytes: int,
    block: int,
    shard_size: int,
    shards_per_file: int,
) -> None:
    root = tmp_path_factory.mktemp("lists")
    paths = [root / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    pieces = pieces_of(paths, piece_bytes)
    counts = [count_piece(piece) for piece in pieces]
    rows = {os.fsencode(path): 0 for path in paths}
    for piece, count in zip(pieces, counts, strict=True):
        rows[piece.location] += count.rows
    names = [str(path) for path in paths]
    if 0 in rows.values():
        with pytest.raises(UsageError, match="holds no line"):
            make_plan(names, root / "launcher", batch_size=2, shard_size=shard_size)
        return
    plan = make_plan(names, root / "launcher", batch_size=2, shard_size=shard_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_lines, "BLOCK_BYTES", block)
        for module in (plan_files, plan_pieces):
            patch.setattr(module, "SHARDS_PER_FILE", shards_per_file)
        assert [count_piece(piece) for piece in pieces] == counts
        found = plan_in_pieces(pieces, root / "pieces", shard_size)
    expected = planned_table([root / "launcher" / file.name for file in plan.files])
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.equals(expected)
    assert sum(count.blank for count in counts) == plan.left_out.get("blank_line", 0)


def test_the_files_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups are shards, no file has more than it may, and writing again gives the same bytes."""
    for module in (plan_files, plan_pieces):
        monkeypatch.setattr(module, "SHARDS_PER_FILE", 3)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"/photos/{number:02d}.jpg\n" for number in range(17)))
    storage = LocalStorage(str(tmp_path))
    (piece,) = pieces_of([path], 1000)
    files = write_piece(piece, 17, 100, 2, storage, PREFIX)
    names = [tmp_path / f"{PREFIX}-{piece_file(0, index)}" for index in range(3)]
    groups = [pq.ParquetFile(name).metadata for name in names]
    assert [[m.row_group(i).num_rows for i in range(m.num_row_groups)] for m in groups] == [[2, 2, 2]] * 2 + [[2, 2, 1]]
    assert [(file.rows, file.bytes) for file in files] == [
        (rows, name.stat().st_size) for rows, name in zip((6, 6, 5), names, strict=True)
    ]
    assert planned_table(names)["row"].to_pylist() == list(range(100, 117))
    launcher = make_plan(str(path), tmp_path / "launcher", batch_size=2, shard_size=100)
    monkeypatch.undo()
    assert write_piece(piece, 17, 0, 100, storage, "whole") == [
        PieceFile(17, launcher.files[0].bytes, launcher.fingerprint)
    ]
    before = [name.read_bytes() for name in names]
    for name in names:
        name.unlink()
    for module in (plan_files, plan_pieces):
        monkeypatch.setattr(module, "SHARDS_PER_FILE", 3)
    assert write_piece(piece, 17, 100, 2, storage, PREFIX) == files
    assert [name.read_bytes() for name in names] == before


def test_layout() -> None:
    counts = [PieceCount(3, 9), PieceCount(0, 1), PieceCount(6_398, 0)]
    assert lay_out(counts, 32, None) == plan_pieces.Layout(64, (0, 3, 3), 6_401)
    assert lay_out(counts, 32, 7).shard_size == 7


def test_cuts() -> None:
    assert cut(0, 4) == []
    assert cut(8, 4) == [(0, 4), (4, 8)]
    assert cut(9, 4) == [(0, 4), (4, 8), (8, 9)]


def test_a_line_that_is_too_long_is_told_by_the_piece_it_begins_in(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"/a\n\n/b\n" + b"x" * (3 * MAX_LINE_BYTES) + b"\n/c\n")
    pieces = pieces_of([path], MAX_LINE_BYTES)
    assert [count_piece(piece) for piece in pieces] == [
        PieceCount(2, 1, too_long=True), PieceCount(0, 0), PieceCount(0, 0), PieceCount(1, 0),
    ]  # fmt: skip


def test_a_piece_within_a_long_line_is_not_read_to_the_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(50 << 20)  # one line of zeros
    opened = io.BytesIO(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "close", lambda: None)
        patch.setattr(plan_pieces, "_open", lambda location: opened)
        assert count_piece(pieces_of([path], 4 << 20)[3]) == PieceCount(0, 0)
    assert 16 << 20 <= opened.tell() <= 17 << 20


def test_a_list_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("/a\n/b\n")
    (piece,) = pieces_of([path], 100)
    with pytest.raises(ChangedListError, match=f"{path}: the list has changed since planning began"):
        write_piece(piece, 3, 0, 2, LocalStorage(str(tmp_path)), PREFIX)
    assert not (tmp_path / "plan.partial").exists()
    path.write_text("/a\n/b\n/c\n")
    with pytest.raises(ChangedListError, match=f"{path}: the list has changed since planning began"):
        count_piece(piece)


def test_the_step(tmp_path: Path) -> None:
    """Through a pipeline, on the local runner."""
    paths = [tmp_path / "0.txt", tmp_path / "1.txt"]
    for path in paths:
        path.write_text("".join(f"{path.stem}/{number}.jpg\n" + "\n" * (number % 5 == 0) for number in range(400)))
    pieces = pieces_of(paths, 500)
    from pipeline.runners import runner_and_options

    runner, options = runner_and_options("DirectRunner", {})
    with beam.Pipeline(runner=runner, options=options) as root:
        _ = root | beam.Create(pieces) | PlanLists(str(tmp_path / "out"), PREFIX, 2, None)
    storage = LocalStorage(str(tmp_path / "out"))
    names = [
        tmp_path / "out" / f"{PREFIX}-{piece_file(piece.number, index)}"
        for piece in pieces
        for index in range(len(load_files(storage, PREFIX, piece.number)))
    ]
    plan = make_plan([str(path) for path in paths], tmp_path / "launcher", batch_size=2)
    expected = planned_table([tmp_path / "launcher" / file.name for file in plan.files])
    assert planned_table(names).equals(expected)
    assert [load_count(storage, PREFIX, piece.number) for piece in pieces] == [count_piece(piece) for piece in pieces]


def test_the_step_writes_nothing_when_a_line_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"/a\n" * 10 + b"x" * (MAX_LINE_BYTES + 1))
    pieces = pieces_of([path], 20)[:3]
    from pipeline.runners import runner_and_options

    runner, options = runner_and_options("DirectRunner", {})
    with beam.Pipeline(runner=runner, options=options) as root:
        _ = root | beam.Create(pieces) | PlanLists(str(tmp_path / "out"), PREFIX, 2, None)
    assert sorted(found.name for found in (tmp_path / "out" / "plan.partial").iterdir()) == [
        f"1-piece-0000{number}-counted.json" for number in range(3)
    ]
