"""Manifests of every kind over the same images, and the rows that they must become."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Expected:
    """A row of the output: `outcome` is `ok`, or the stage and type of the error."""

    uri: str
    outcome: str
    sha256: str | None = None
    id: int | None = None
    caption: str | None = None
    cls: int | None = None
    json: str | None = None


@dataclass(frozen=True)
class Table:
    """What manifests are made of.

    Attributes:
        folder: where they go.
        chance: the same seed gives the same manifests.
        draw: a URI as it is written, and its row.
        files: images by name, with their bytes and their row but for the URI.
    """

    folder: Path
    chance: random.Random
    draw: Callable[[], tuple[str, Expected]]
    files: list[tuple[str, bytes, Expected]]

    def caption(self) -> str:
        """Text that needs care in CSV and JSON."""
        return self.chance.choice(["a dog", "two\nlines", 'say "hi", twice', "été, 日本", "tab\there", " spaces "])

    def is_bad(self) -> bool:
        return self.chance.random() < 0.01


def write_inputs(table: Table, rows: int) -> tuple[list[str], list[Expected]]:
    """Write inputs of all kinds with `rows` rows together; returns `input.path` and the rows, in order."""
    folder = table.folder / "images"
    names = sorted((name for name, _, _ in table.files), key=str.encode)
    parts: dict[str, list[Expected]] = {}
    for name, share, write in (
        ("list.txt.zst", 0.1, _write_text),
        ("a.csv", 0.2, _write_csv),
        ("b.tsv.gz", 0.1, _write_tsv),
        ("c.jsonl", 0.2, _write_json_lines),
        ("table", 0.15, _write_parquet),
        ("shards/0.tar", 0.1, _write_tar),
    ):
        parts[str(table.folder / name)] = write(table, table.folder / name, int(rows * share))
    by_name = {name: row for name, _, row in table.files}
    parts[str(folder)] = [replace(by_name[name], uri=f"{folder}/{name}") for name in names]
    parts[f"{folder}/*.png"] = [row for row in parts[str(folder)] if row.uri.endswith(".png")]
    rest = rows - sum(map(len, parts.values()))
    parts[str(table.folder / "d.ndjson")] = _write_json_lines(table, table.folder / "d.ndjson", rest)
    return list(parts), [row for written in parts.values() for row in written]


def _write_text(table: Table, path: Path, rows: int) -> list[Expected]:
    drawn = [table.draw() for _ in range(rows)]
    with pa.output_stream(str(path), compression="zstd") as file:
        file.write("\n\r\n".join(uri for uri, _ in drawn).encode())
    return [row for _, row in drawn]


def _write_csv(table: Table, path: Path, rows: int) -> list[Expected]:
    """With a byte order mark, CRLF and, at its end, a quote that is not closed."""
    text = io.StringIO(newline="")
    expected = _write_delimited(table, path, text, "excel", rows - 1)
    line = text.getvalue().count("\n") + 1
    text.write('7,"open,images/baseline.jpg\r\n')
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    return [*expected, Expected(f"{path}#line={line}", "read/bad_line")]


def _write_tsv(table: Table, path: Path, rows: int) -> list[Expected]:
    text = io.StringIO(newline="")
    expected = _write_delimited(table, path, text, "excel-tab", rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))
    return expected


def _write_delimited(table: Table, path: Path, text: io.StringIO, dialect: str, rows: int) -> list[Expected]:
    writer = csv.writer(text, dialect)
    writer.writerow(["id", "caption", "uri"])
    expected = []
    line = 2
    for id in range(rows):
        if table.is_bad():
            record: list[object] = table.chance.choice([["one field"], [id, "a", "b.jpg", "d"], [id, "no uri", ""]])
            expected.append(Expected(f"{path}#line={line}", "read/bad_line"))
        else:
            uri, row = table.draw()
            record = [id, table.caption(), uri]
            expected.append(replace(row, id=id, caption=str(record[1])))
        writer.writerow(record)
        line += 1 + sum(str(value).count("\n") for value in record)
    return expected


def _write_json_lines(table: Table, path: Path, rows: int) -> list[Expected]:
    expected = []
    with path.open("w") as file:
        for id in range(rows):
            if table.is_bad():
                bad = ['{"uri": "images/', "[]", '{"file": "a.jpg"}', '{"uri": 7}', '{"uri": ""}']
                file.write(table.chance.choice(bad) + "\n")
                expected.append(Expected(f"{path}#line={id + 1}", "read/bad_line"))
            else:
                uri, row = table.draw()
                values = {"uri": uri, "id": id, "caption": table.caption(), "other": [id]}
                file.write(json.dumps(values, ensure_ascii=id % 2 == 0) + "\n")
                expected.append(replace(row, id=id, caption=values["caption"]))
    return expected


def _write_parquet(table: Table, folder: Path, rows: int) -> list[Expected]:
    """Two files, whose ids have types of their own; relative URIs name images beside the folder."""
    folder.mkdir()
    expected = []
    for number, (count, type) in enumerate(((rows // 3, pa.int16()), (rows - rows // 3, pa.uint32()))):
        path = folder / f"part-{number}.parquet"
        uris: list[str | None] = []
        ids = [id % 30_000 for id in range(count)]
        captions = [table.caption() for _ in range(count)]
        for index in range(count):
            if table.is_bad():
                uris.append(table.chance.choice([None, "", " "]))
                expected.append(Expected(f"{path}#row={index}", "read/bad_line", None, ids[index], captions[index]))
            else:
                uri, row = table.draw()
                if "://" not in uri and not uri.startswith("/"):
                    uri = f"../{uri}"
                    row = replace(row, uri=f"{folder}/{uri}")
                uris.append(uri)
                expected.append(replace(row, id=ids[index], caption=captions[index]))
        columns = {"caption": pa.array(captions), "id": pa.array(ids, type), "uri": pa.array(uris)}
        pq.write_table(pa.table(columns), path, row_group_size=1_000)
    return expected


def _write_tar(table: Table, path: Path, rows: int) -> list[Expected]:
    path.parent.mkdir()
    expected = []
    with tarfile.open(path, "w") as tar:
        for id in range(rows):
            name, data, row = table.chance.choice(table.files)
            key = f"{id // 1000}/{id:06d}"
            member = f"{key}.{name.rpartition('.')[2]}"
            fields = {"cls": id % 100, "json": json.dumps({"id": id})}
            sidecars = ((f"{key}.{extension}", str(value).encode()) for extension, value in fields.items())
            for each, content in ((member, data), *sidecars):
                header = tarfile.TarInfo(each)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
            expected.append(replace(row, uri=f"{path}#{member}", cls=id % 100, json=str(fields["json"])))
    return expected
