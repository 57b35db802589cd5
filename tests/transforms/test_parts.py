import io
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.parts import (
    REQUESTS,
    DamagedPartError,
    PartFooter,
    commit_part,
    encode_part,
    newest_parts,
    parse_part_name,
    part_footer,
    part_name,
    read_footer,
    read_parts,
    remove_temporary,
)
from transforms.records import Columns, Row, Shard, prediction_schema, rows_to_table
from transforms.storage import LocalStorage

SHARD = Shard(file=3, row_group=17, rows=2)
FOOTER = PartFooter("plan", 3, 17, 0, rows=2, failed=1, run="run", seconds={"read": 0.5}, finished=12.0)


def table_of() -> pa.Table:
    rows = [
        Row(40, 0, "a.jpg", 4, 3, "jpeg", 100, "ab", classes=np.array([2, 1]),
            scores=np.array([0.75, 0.25], np.float32), logits=np.array([1, 2, 3], np.float32)),
        Row(41, 1, "b.jpg", error_stage="read", error_type="not_found", error_message="no such file"),
    ]  # fmt: skip
    return rows_to_table(rows, Columns(top_k=2, logits=3), ["tench", "goldfish"], 1, None)


def test_rows_to_table_is_exact() -> None:
    first = {"label_index": 1, "label": "goldfish", "score": 0.75}
    assert table_of().to_pylist() == [
        {
            "row": 40, "uri": "a.jpg", "status": "ok", "label": "goldfish", "label_index": 1, "score": 0.75,
            "top_k": [first, {"label_index": 0, "label": "tench", "score": 0.25}],
            "width": 4, "height": 3, "format": "jpeg", "bytes": 100, "sha256": "ab",
            "error_stage": None, "error_type": None, "error_message": None, "logits": [1.0, 2.0, 3.0],
        },
        {
            "row": 41, "uri": "b.jpg", "status": "failed", "label": None, "label_index": None, "score": None,
            "top_k": None, "width": None, "height": None, "format": None, "bytes": None, "sha256": None,
            "error_stage": "read", "error_type": "not_found", "error_message": "no such file",
            "logits": [None, None, None],
        },
    ]  # fmt: skip


def test_the_schema_is_the_one_of_the_docs() -> None:
    carried = pa.schema([("camera", pa.string())]).serialize().to_pybytes()
    schema = prediction_schema(Columns(top_k=5, logits=1000, embedding=8, carried=carried))
    assert [f"{field.name}: {field.type}" for field in schema] == [
        "row: int64", "uri: string", "camera: string", "status: string", "label: string", "label_index: int32",
        "score: float",
        "top_k: list<item: struct<label_index: int32, label: string, score: float>>",
        "width: int32", "height: int32", "format: string", "bytes: int64", "sha256: string",
        "error_stage: string", "error_type: string", "error_message: string",
        "logits: fixed_size_list<item: float>[1000]", "embedding: fixed_size_list<item: float>[8]",
    ]  # fmt: skip
    assert "label" not in prediction_schema(Columns(top_k=0)).names


def test_a_class_before_the_offset_is_background() -> None:
    row = Row(0, 0, "a", classes=np.array([0]), scores=np.array([1.0], np.float32))
    table = rows_to_table([row], Columns(top_k=1), ["tench", "goldfish"], 1, None)
    assert table.column("label").to_pylist() == ["background"]
    assert table.column("label_index").to_pylist() == [-1]
    unnamed = rows_to_table([row], Columns(top_k=1), None, 0, None)
    assert unnamed.column("label").to_pylist() == [None]
    assert unnamed.column("label_index").to_pylist() == [0]


def test_names_tell_the_shard_and_generation() -> None:
    assert part_name(SHARD) == "predictions/00003/part-00017.parquet"
    assert part_name(replace(SHARD, generation=2)) == "predictions/00003/part-00017-g002.parquet"
    for shard in (SHARD, replace(SHARD, generation=12), Shard(123456, 999, 1)):
        assert parse_part_name(part_name(shard)) == (shard.file, shard.row_group, shard.generation)
    for other in ("predictions/00003/.tmp-part-00017.parquet-ab", "part-00017.parquet", "predictions/3/part-1.parquet"):
        assert parse_part_name(other) is None


def test_a_part_comes_back_with_its_footer(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    assert commit_part(storage, SHARD, table_of(), FOOTER)
    assert not commit_part(storage, SHARD, table_of(), replace(FOOTER, failed=2))
    assert part_footer(storage, part_name(SHARD)) == FOOTER
    assert pq.read_table(tmp_path / part_name(SHARD)).equals(table_of())
    assert newest_parts(storage, 3) == {17: (0, part_name(SHARD))}
    later = replace(SHARD, generation=1)
    assert commit_part(storage, later, table_of(), replace(FOOTER, generation=1))
    assert newest_parts(storage, 3) == {17: (1, part_name(later))}
    assert newest_parts(storage, 4) == {}


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_part_is_damaged(keep: int) -> None:
    data = encode_part(table_of(), FOOTER)
    with pytest.raises(DamagedPartError):
        read_footer(data[:keep])


def test_foreign_files_are_no_parts(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(table_of(), buffer)
    with pytest.raises(DamagedPartError, match="not written by hublabel"):
        read_footer(buffer.getvalue())
    with pytest.raises(DamagedPartError, match="2 rows where its footer says 3"):
        read_footer(encode_part(table_of(), replace(FOOTER, rows=3)))
    storage = LocalStorage(str(tmp_path))
    name = part_name(replace(SHARD, row_group=18))
    storage.put_if_absent(name, encode_part(table_of(), FOOTER))
    with pytest.raises(DamagedPartError, match="another shard"):
        part_footer(storage, name)


def test_temporary_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    commit_part(storage, SHARD, table_of(), FOOTER)
    storage.replace("predictions/00003/.tmp-part-00018.parquet-0", b"half")
    storage.replace("predictions/00003/notes.txt", b"the user's")
    remove_temporary(storage, 3)
    assert sorted(storage.list("predictions/00003")) == ["predictions/00003/notes.txt", part_name(SHARD)]


class Distant:
    """An object store that tells how many objects are open at a time, and in which order they were asked for."""

    root = "s3://bucket/out"

    def __init__(self, disk: LocalStorage) -> None:
        self._disk, self.asked, self.delivered = disk, 0, 0

    def open(self, name: str) -> BinaryIO:
        self.asked += 1
        assert self.asked - self.delivered <= REQUESTS
        return self._disk.open(name)


def test_parts_of_an_object_store_are_read_ahead_in_order_and_not_too_far(tmp_path: Path) -> None:
    disk = LocalStorage(str(tmp_path))
    names = []
    for number in range(3 * REQUESTS):
        shard = Shard(0, number, 2)
        table = table_of().set_column(0, table_of().schema.field(0), [[number, number + 1]])
        assert commit_part(disk, shard, table, replace(FOOTER, file=0, row_group=number))
        names.append(part_name(shard))
    store = Distant(disk)
    found = []
    for table in read_parts(store, names, ["row", "no_such"]):
        assert table.column_names == ["row"]
        found.append(table["row"][0].as_py())
        store.delivered += 1
    assert found == list(range(3 * REQUESTS))
    some = read_parts(Distant(disk), names, ["row"])
    assert next(some).num_rows == 2
    some.close()  # without reading the rest
    disk.delete(names[5])
    with pytest.raises(FileNotFoundError):
        list(read_parts(Distant(disk), names, ["row"]))
