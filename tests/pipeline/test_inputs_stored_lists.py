"""Lists, tables and tars on object stores: moto's S3 and fake-gcs-server, real servers on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.check import sample as sampling
from pipeline.check.sample import spread_sample
from pipeline.errors import UsageError
from pipeline.extend import extend_plan
from pipeline.inputs import Reading, find_inputs, read_input
from pipeline.plan import make_plan
from tests.http_server import Exchange, ImageServer
from tests.object_store import BUCKET, ObjectStore
from tests.pipeline.lake import Lake, names, read, tar
from tests.pipeline.planning import COMPRESS, plan_table
from transforms import locations, ranged, storage_gcs
from transforms import read as read_module
from transforms.errors import ImageError
from transforms.read import read_bytes


def parquet(table: pa.Table, **options: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


# Lists and tables.

LINES = [
    "a.jpg",
    "./b.jpg",
    "../c.jpg",
    "d/./../e.jpg",
    "../../../../f.jpg",
    "x..jpg",
    "gs://g/..",
    "/l/..",
    "file:///m%20n",
]


FORMS = [*(f"{form}{suffix}" for form in ("txt", "csv", "tsv", "jsonl") for suffix in COMPRESS), "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_relative_uris_are_resolved_against_the_list(lake: Lake, form: str) -> None:
    form, dot, suffix = form.partition(".")
    data = {
        "txt": "\r\n".join(["", *LINES]).encode(),
        "csv": "\n".join(["id,uri", *(f'1,"{line}"' for line in LINES)]).encode(),
        "tsv": "\n".join(["id\turi", *(f"1\t{line}" for line in LINES)]).encode(),
        "jsonl": "\n".join(f'{{"uri": "{line}"}}' for line in LINES).encode(),
        "parquet": parquet(pa.table({"uri": LINES})),
    }[form]
    uri = lake.put(f"lists/x/list.{form}{dot}{suffix}", COMPRESS[dot + suffix](data))
    bucket = lake.root.rpartition("/")[0]
    wanted = ["lists/x/a.jpg", "lists/x/b.jpg", "lists/c.jpg", "lists/x/e.jpg", f"{bucket}/f.jpg", "lists/x/x..jpg"]
    assert names(uri, lake) == [*wanted, "gs://g/..", "/l/..", "/m n"]
    assert read(uri)[1] == ({"blank_line": 1} if form == "txt" else {})


def test_a_list_that_the_store_would_unpack_comes_as_it_is_stored(google_store: ObjectStore) -> None:
    uris = [f"gs://b/{number}.jpg" for number in range(50_000)]
    blob = storage_gcs.client().bucket(BUCKET).blob("unpacked/list.txt.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(COMPRESS[".gz"]("\n".join(uris).encode()))
    assert read(f"gs://{BUCKET}/unpacked/list.txt.gz")[0] == uris


def test_names_that_are_no_utf8(lake: Lake) -> None:
    uri = lake.put("list.txt", b"caf\xe9 1.jpg\n../caf\xe9%.jpg\ns3://b/\xe9\n")
    bucket = lake.root.rpartition("/")[0]
    assert names(uri, lake) == ["caf%E9 1.jpg", f"{bucket}/caf%E9%.jpg", "s3://b/%E9"]


def test_bad_lines_are_named(lake: Lake, tmp_path: Path) -> None:
    uri = lake.put("list.csv", "n,uri\n1,a.jpg\n2\n")
    with pytest.raises(UsageError, match=rf"^input\.path: '{uri}': line 3: it has 1 field, and the first line has 2"):
        plan_table(uri, tmp_path / "out")
    table, _ = plan_table(uri, tmp_path / "out", on_bad_line="row")
    assert table["uri"].to_pylist() == [f"{lake.root}/a.jpg", f"{uri}#line=3"]
    assert table["_hublabel_error"].to_pylist() == [None, f"line 3 of {uri}: it has 1 field, and the first line has 2"]


def test_folders_and_globs_of_tables(lake: Lake, tmp_path: Path) -> None:
    for year, name in ((2023, "b"), (2024, "a")):
        lake.put(f"table/year={year}/{name}.parquet", parquet(pa.table({"uri": [f"{name}.jpg"], "n": [year]})))
        lake.put(f"lists/{name}.csv", f"uri,n\n{name}.jpg,{year}\n")
    lake.put("table/_SUCCESS")
    lake.put("table/_temporary/c.parquet", b"damaged")
    wanted = {"n": [2023, 2024], "year": [2023, 2024]}
    table, _ = plan_table(f"{lake.root}/table", tmp_path / "out", "n", "year")
    assert table.drop_columns(["row", "uri"]).to_pydict() == wanted
    assert table["uri"].to_pylist() == [f"{lake.root}/table/b.jpg", f"{lake.root}/table/a.jpg"]
    (tmp_path / "c.csv").write_text("uri,n\nc.jpg,1\n")
    table, _ = plan_table([f"{lake.root}/lists/*.csv", f"{tmp_path}/c.csv"], tmp_path / "out", "n")
    assert table["uri"].to_pylist() == [f"{lake.root}/lists/a.jpg", f"{lake.root}/lists/b.jpg", f"{tmp_path}/c.jpg"]
    assert table["n"].to_pylist() == [2024, 2023, 1]
    assert names(f"{lake.root}/table/**/b.parquet", lake) == ["table/year=2023/b.jpg"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_large_list_streams(lake: Lake, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "MOST_AHEAD", 1 << 20)
    wanted = [os.urandom(50).hex() for _ in range(100_000)]
    data = COMPRESS[suffix]("\n".join(wanted).encode())
    uri = lake.put(f"list.txt{suffix}", data)
    assert names(uri, lake) == wanted
    pieces = len(data) / (1 << 20)
    assert pieces < lake.gets() < pieces + 8
    assert len(data) > 5 << 20


def serving(data: bytes, parts: list[tuple[str, int]]) -> Callable[[Exchange], None]:
    """Answers of an S3 that gives ranges; of those in `parts` (range, bytes that come) only the beginning."""

    def answer(exchange: Exchange) -> None:
        asked = exchange.headers.get("Range", "bytes=0-")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        part = data[start : int(last) + 1] if first and last else data[start:]
        come = dict(parts[:1]).get(asked, len(part))
        if come < len(part):
            parts.pop(0)
        place = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        exchange.answer(part[:come], 206, len(part), Content_Range=place, ETag='"1"')
        if come < len(part):
            exchange.hang_up()

    return answer


def test_a_connection_that_breaks_shortens_no_list(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, without_pauses: None
) -> None:
    wanted = [f"s3://photos/{number:06}.jpg" for number in range(100_000)]
    data = "\n".join(wanted).encode()
    second = f"bytes={1 << 20}-{(2 << 20) - 1}"
    cut = [("bytes=-65536", 10), (second, 0), (second, 300_000)]
    with ImageServer().running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers = {"/photos/list.txt": serving(data, cut)}
        assert read("s3://photos/list.txt")[0] == wanted
        assert cut == []
        server.answers = {"/photos/list.txt": serving(data, [(second, 300_000)] * 10)}
        with pytest.raises(UsageError, match=r"'s3://photos/list\.txt' cannot be read: .*\(300000 bytes read"):
            read("s3://photos/list.txt")


def test_a_list_that_is_replaced_while_it_is_read(lake: Lake) -> None:
    lines = "\n".join(f"{number:06}.jpg" for number in range(300_000))
    uri = lake.put("list.txt", lines)
    [source] = find_inputs(uri)
    batches = read_input(source, Counter())
    assert next(batches).column("uri")[0].as_py() == f"{lake.root}/000000.jpg"
    lake.put("list.txt", lines.replace("0", "1"))
    with pytest.raises(UsageError, match=rf"'{uri}' cannot be read: {uri}: changed while it was read"):
        list(batches)


def test_of_parquet_only_the_columns_that_are_used_are_fetched(lake: Lake) -> None:
    columns = {"uri": [f"{number}.jpg" for number in range(50)], "image": [os.urandom(100_000)] * 50}
    data = parquet(pa.table(columns), row_group_size=10, use_dictionary=False, compression="none")
    uri = lake.put("table.parquet", data)
    with lake.counted() as sent:
        assert names(uri, lake) == columns["uri"]
    assert len(data) > 5_000_000
    assert sum(sent) < 1_000_000


# Tars.

SAMPLES = {"a/0.jpg": b"jpg of 0", "a/0.cls": b"7", "b/1.png": b"png of 1" * 1000, "b/1.txt": b"x", "c d#é%.jpg": b"2"}


def test_members_are_rows_and_read_with_one_request(lake: Lake, tmp_path: Path) -> None:
    uri = lake.put("shards/s-0.tar", tar(SAMPLES))
    lake.put("shards/s-1.tar", tar({"z.jpg": b"z"}))
    table, plan = plan_table([uri, f"{lake.root}/shards/*.tar"], tmp_path / "out", "cls")
    images = ["a/0.jpg", "b/1.png", "c d#é%.jpg"]
    first = [f"{uri}#{name}" for name in images]
    assert table["uri"].to_pylist() == [*first, *first, f"{lake.root}/shards/s-1.tar#z.jpg"]
    assert table["cls"].to_pylist() == [7, None, None, 7, None, None, None]
    assert plan.left_out == {"unknown_suffix": 2}
    sources = table["_hublabel_source"].to_pylist()
    lake.server.well()
    for source, name in zip(sources, images, strict=False):
        assert read_bytes(source, 8000) == SAMPLES[name]
    assert read_bytes(sources[-1], 1) == b"z"
    assert len(lake.server.requests) == 4
    assert reason(sources[1], 7999) == ("too_large", "8,000 bytes; image.max_bytes is 7,999")
    assert len(lake.server.requests) == 4


def reason(uri: str, max_bytes: int = 10_000) -> tuple[str, str]:
    with pytest.raises(ImageError) as error:
        read_bytes(uri, max_bytes)
    assert error.value.stage == "read"
    return error.value.type, error.value.message


def test_an_archive_that_was_rewritten_gives_no_neighbours_bytes(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = lake.put("s.tar", tar({"012.jpg": b"one", "021.jpg": b"two"}))
    first, second = plan_table(uri, tmp_path / "out")[0]["_hublabel_source"].to_pylist()
    changed = ("changed", "the archive has changed: '012.jpg' is not where it was")
    lake.put("s.tar", tar({"021.jpg": b"two", "012.jpg": b"one"}))
    assert reason(first) == changed
    lake.put("s.tar", tar({"012.jpg": b"four", "021.jpg": b"two"}))
    assert reason(first) == changed
    for length in (700, 1024, 1536, 1538):  # before the header, at it, behind it, within the member
        lake.put("s.tar", tar({"012.jpg": b"one", "021.jpg": b"two"})[:length])
        assert reason(second) == ("changed", "the archive has changed: '021.jpg' is not where it was")
        assert read_bytes(first, 3) == b"one" if length > 700 else True
    storage, name = locations.opened(uri.encode())
    storage.delete(name)
    assert reason(first)[0] == "not_found"
    lake.server.refuse = lambda *_: (403, "AccessDenied")
    assert reason(first)[0] == "permission_denied"
    monkeypatch.setattr(read_module, "_is_installed", lambda found: False)
    assert reason(first)[0] == "unsupported_scheme"


def test_a_store_that_gives_no_parts(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with ImageServer().running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers = {"/photos/s.tar": bytes(2000)}
        assert reason("tar-member://512+3+00000000/s3%3A//photos/s.tar#a.jpg") == (
            "io_error", "the store does not give parts of objects",
        )  # fmt: skip


def test_a_member_whose_bytes_break_off_is_fetched_again(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, without_pauses: None
) -> None:
    data = tar({"a.jpg": bytes(range(100))})
    span = "bytes=0-611"
    with ImageServer().running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers = {"/photos/s.tar": serving(data, [(span, 600), (span, 0)])}
        member = f"tar-member://512+100+{zlib.crc32(data[:512]):08x}/s3%3A//photos/s.tar#a.jpg"
        assert read_bytes(member, 100) == bytes(range(100))
        assert len(server.requests) == 3
        server.answers = {"/photos/s.tar": serving(data, [(span, 600)] * 10)}
        assert reason(member)[0] == "incomplete_read"


@pytest.mark.parametrize("size", [1000, 300_000, 5_000_000])
def test_a_pass_over_a_tar_fetches_no_more_than_it_must(lake: Lake, tmp_path: Path, size: int) -> None:
    count = 20_000_000 // size if size > 1000 else 2000
    data = tar({f"{number}.jpg": bytes(size) for number in range(count)})
    uri = lake.put("s.tar", data)
    with lake.counted() as sent:
        table, _ = plan_table(uri, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"{uri}#{number}.jpg" for number in range(count)]
    assert read_bytes(table["_hublabel_source"][count - 1].as_py(), size) == bytes(size)
    least, most = {1000: (0.9, 1.1), 300_000: (0.9, 1.1), 5_000_000: (0, 0.4)}[size]
    assert least * len(data) < sum(sent) < most * len(data)
    assert len(sent) < 20


def test_a_damaged_tar(lake: Lake, tmp_path: Path) -> None:
    data = tar({f"{number}.jpg": b"x" * 600 for number in range(5)})
    uri = lake.put("s.tar", data[: 3 * 1536 + 700])
    with pytest.raises(UsageError, match=rf"'{uri}': byte 4608: the archive ends within '3\.jpg'"):
        plan_table(uri, tmp_path / "out")
    table, _ = plan_table(uri, tmp_path / "out", on_bad_line="row")
    assert table["uri"].to_pylist() == [*(f"{uri}#{number}.jpg" for number in range(3)), f"{uri}#byte=4608"]
    with pytest.raises(UsageError, match="it is not an uncompressed tar archive"):
        plan_table(lake.put("s.tar", b"\x1f\x8b" + bytes(1000)), tmp_path / "out")


def test_names_of_members_that_are_no_utf8(lake: Lake, tmp_path: Path) -> None:
    uri = lake.put("s.tar", tar({"caf\udce9.jpg": b"x"}))
    table, _ = plan_table(uri, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"{uri}#caf%E9.jpg"]
    assert read_bytes(table["_hublabel_source"][0].as_py(), 9) == b"x"


# Other users of inputs.


def test_an_input_is_extended(lake: Lake, tmp_path: Path) -> None:
    lake.put_all("photos/b.jpg")
    lake.put("s.tar", tar({"0.jpg": b"x"}))
    paths = [f"{lake.root}/photos/", f"{lake.root}/*.tar"]
    plan = make_plan(paths, tmp_path / "out", batch_size=1, shard_size=2)
    assert extend_plan(plan, paths, tmp_path / "out", batch_size=1, shard_size=2) is plan
    lake.put_all("photos/a.jpg")
    lake.put("s.tar", tar({"0.jpg": b"x", "1.jpg": b"y"}))
    longer = extend_plan(plan, paths, tmp_path / "out", batch_size=1, shard_size=2)
    assert (longer.rows, longer.shards, longer.fingerprint) == (4, 2, plan.fingerprint)
    added = pq.read_table(tmp_path / "out" / longer.files[1].name).to_pydict()
    assert added["uri"] == [f"{lake.root}/photos/a.jpg", f"{lake.root}/s.tar#1.jpg"]
    assert added["row"] == [2, 3]
    assert added["_hublabel_source"][0] is None
    assert read_bytes(added["_hublabel_source"][1], 9) == b"y"


def test_a_sample_is_drawn(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LARGE", 100_000)
    monkeypatch.setattr(sampling, "PIECE_BYTES", 340)
    monkeypatch.setattr(ranged, "NEAR", 0)
    uris = [f"/p/{number:06}.jpg" for number in range(100_000)]
    lake.put_all("photos/a.jpg", "photos/b.jpg", "photos/c.txt")
    lists = {
        lake.put("list.txt", "\n".join(uris)): ("about", 500_000),
        lake.put("t.parquet", parquet(pa.table({"uri": uris}), row_group_size=1000)): ("exact", 500_000),
        f"{lake.root}/photos/": ("exact", 20_000),
        lake.put("s.tar", tar(SAMPLES)): ("exact", 50_000),
    }
    counts = [(100_000, 0.02), (100_000, 0), (2, 0), (3, 0)]
    for (path, (counted, most)), (count, tolerance) in zip(lists.items(), counts, strict=True):
        with lake.counted() as sent:
            found = spread_sample(find_inputs(path), 50, Reading())
        assert (found.counted, len(found.rows)) == (counted, min(50, count))
        assert found.images == pytest.approx(count, rel=tolerance)
        assert sum(sent) < most
    assert [row.uri for row in found.rows] == [f"{path}#{name}" for name in ("a/0.jpg", "b/1.png", "c d#é%.jpg")]


def test_stores_are_loaded_only_when_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("s3://b/a.jpg\ngs://b/a.jpg\n")
    (tmp_path / "s.tar").write_bytes(tar({"0.jpg": b"x"}))
    program = """
import sys
from pipeline.plan import make_plan
make_plan(sys.argv[1:4], sys.argv[4], batch_size=1)
print(sorted({"boto3", "google.cloud", "transforms.ranged", "apache_beam", "tensorflow"} & set(sys.modules)))
"""
    paths = [f"{tmp_path}/list.txt", f"{tmp_path}/s.tar", str(tmp_path / "*.txt"), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
