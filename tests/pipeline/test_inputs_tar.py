"""WebDataset tars: members as rows, fields beside them as columns, damaged archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from tests.pipeline.planning import errors, plan_rows, plan_table
from transforms import tar_members
from transforms.errors import ImageError
from transforms.read import read_bytes
from transforms.tar_members import DamagedTarError, members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def make_tar(path: Path, files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


SAMPLES = {
    "a/0.jpg": b"jpg of 0",
    "a/0.cls": b"7\n",
    "a/0.json": b'{"x": "\xc3\xa9"}',
    "a/1.cls": b"12",
    "a/1.left.PNG": b"left of 1",
    "a/1.right.png": b"right of 1",
    "b/1.webp": b"of another folder",
    "b/2.txt": b"no image",
    "b/._2.jpg": b"hidden",
}


def test_members_are_rows_and_fields_columns(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", SAMPLES)
    table, plan = plan_table(path, tmp_path / "out", "cls", "json")
    assert table.drop_columns(["row", "_hublabel_source"]).to_pydict() == {
        "uri": [f"{path}#{name}" for name in ("a/0.jpg", "a/1.left.PNG", "a/1.right.png", "b/1.webp")],
        "cls": [7, 12, 12, None],
        "json": ['{"x": "é"}', None, None, None],
    }
    assert table.schema.field("cls").type == pa.int64()
    assert plan.left_out == {"hidden": 1, "unknown_suffix": 1}
    for uri, source in zip(table["uri"].to_pylist(), table["_hublabel_source"].to_pylist(), strict=True):
        wanted = SAMPLES[uri.partition("#")[2]]
        assert read_bytes(source, 100) == read_bytes(uri, 100) == wanted


def test_fields_that_are_not_carried_are_not_read(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {"0.jpg": b"x", "0.cls": b"\xff", "0.json": b"\xff"})
    assert list(plan_rows(path, tmp_path / "out")[0]) == ["uri", "_hublabel_source"]
    assert errors(path, tmp_path / "out") == {}


def test_classes_that_are_no_numbers_are_text(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {"0.jpg": b"x", "0.cls": b"1", "1.jpg": b"x", "1.cls": b"cat"})
    assert [row["cls"] for row in plan_rows(path, tmp_path / "out", "cls")] == ["1", "cat"]
    with pytest.raises(UsageError, match=r"input\.columns: no column 'json' in input\.path: '.*s\.tar'"):
        plan_rows(path, tmp_path / "out", "json")


def test_a_glob_of_tars_and_other_inputs(tmp_path: Path) -> None:
    for number in (1, 0):
        make_tar(tmp_path / f"s-{number}.tar", {f"{number}.jpg": b"x", f"{number}.cls": b"%d" % number})
    (tmp_path / "list.csv").write_text("uri,cls\ns-1.tar#1.jpg,5\n")
    rows = plan_rows([f"{tmp_path}/*.tar", f"{tmp_path}/list.csv"], tmp_path / "out", "cls")
    assert [(row["uri"], row["cls"]) for row in rows] == [
        ("s-0.tar#0.jpg", 0), ("s-1.tar#1.jpg", 1), ("s-1.tar#1.jpg", 5),
    ]  # fmt: skip
    assert rows[2]["_hublabel_source"] is None


@pytest.mark.parametrize("format", FORMATS)
def test_names_of_any_kind(tmp_path: Path, format: str) -> None:
    names = ["é#1.jpg", "./b.jpg", "d" * 90 + "/" + "e" * 80 + ".jpg", "with space.jpg", "x?%41.jpg"]
    names += [] if format == "ustar" else ["f" * 300 + ".jpg"]
    path = make_tar(tmp_path / "s.tar", {name: name.encode() for name in names}, FORMATS[format])
    table, _ = plan_table(path, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"{path}#{name}" for name in names]
    assert [read_bytes(source, 1000).decode() for source in table["_hublabel_source"].to_pylist()] == names
    assert [read_bytes(uri, 1000).decode() for uri in table["uri"].to_pylist()] == names


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {"caf\udce9.jpg": b"x"}, tarfile.GNU_FORMAT)
    table, _ = plan_table(path, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"file://{path}%23caf%E9.jpg"]
    assert read_bytes(table["uri"][0].as_py(), 9) == read_bytes(table["_hublabel_source"][0].as_py(), 9) == b"x"


def test_links_folders_and_sparse_members_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for type in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("x.jpg")
            member.type, member.linkname = type, "a.jpg"
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("a.jpg"))
    table, plan = plan_table(path, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"{path}#a.jpg"]
    assert plan.left_out == {"not_a_file": 3}


def test_duplicate_members_keep_their_own_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for data in (b"one", b"two"):
            member = tarfile.TarInfo("a.jpg")
            member.size = 3
            tar.addfile(member, io.BytesIO(data))
    sources = plan_table(path, tmp_path / "out")[0]["_hublabel_source"].to_pylist()
    assert [read_bytes(source, 9) for source in sources] == [b"one", b"two"]


@pytest.mark.parametrize("seed", range(30))
def test_what_tarfile_finds_is_found(tmp_path: Path, seed: int) -> None:
    import random

    chance = random.Random(seed)
    format = chance.choice(list(FORMATS.values()))
    headers = {"comment": "global"} if format == tarfile.PAX_FORMAT and chance.random() < 0.5 else None
    names = ["a/b/%d.jpg", "é%d.png", "x" * 95 + "%d.jpg", "d" * 90 + "/" + "e" * 60 + "%d.jpg", "folder%d"]
    with tarfile.open(tmp_path / "s.tar", "w", format=format, pax_headers=headers) as tar:
        for number in range(chance.randint(0, 12)):
            member = tarfile.TarInfo(chance.choice(names) % number)
            member.mtime = chance.choice([0, 10**9] + ([1.5] if format == tarfile.PAX_FORMAT else []))  # type: ignore[assignment]
            if member.name.startswith("folder"):
                member.type, member.linkname = chance.choice([tarfile.DIRTYPE, tarfile.SYMTYPE]), "x"
            else:
                member.size = chance.choice([0, 1, 511, 512, 513, 2000])
            tar.addfile(member, io.BytesIO(chance.randbytes(member.size)))
    with tarfile.open(tmp_path / "s.tar") as tar:
        wanted = [(found.name, found.offset_data, found.size) for found in tar]
    with open(tmp_path / "s.tar", "rb") as file:
        assert [(found.name, found.offset, found.size) for found in members(file)] == wanted


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {f"{number}.jpg": b"x" * 600 for number in range(5)})
    data = bytearray(path.read_bytes())
    good = bytes(data)
    data[3 * 1536 + 10] ^= 1
    path.write_bytes(data)
    damaged = {f"s.tar#byte={3 * 1536}": "byte 4608 of s.tar: the archive is damaged here; what follows is not read"}
    assert errors(path, tmp_path / "out") == damaged
    assert [row["uri"] for row in plan_rows(path, tmp_path / "out", on_bad_line="row")] == [
        "s.tar#0.jpg", "s.tar#1.jpg", "s.tar#2.jpg", *damaged,
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"s\.tar': byte 4608: the archive is damaged here; .*\(input\.on_bad_line"):
        plan_rows(path, tmp_path / "out")
    path.write_bytes(good[: 3 * 1536 + 700])
    assert errors(path, tmp_path / "out") == {"s.tar#byte=4608": "byte 4608 of s.tar: the archive ends within '3.jpg'"}
    path.write_bytes(good[: 4 * 1536])  # without the zeros at the end, which many leave out
    assert len(plan_rows(path, tmp_path / "out")) == 4


@pytest.mark.parametrize("content", [b"", b"uri\na.jpg\n", bytes(10240), b"\x1f\x8b" + bytes(1000)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.tar").write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.tar'.* (it is not an uncompressed tar archive|holds no row)"):
        plan_rows(tmp_path / "s.tar", tmp_path / "out", on_bad_line="row")


def test_fields_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.inputs import tar

    monkeypatch.setattr(tar, "MAX_FIELD_BYTES", 3)
    path = make_tar(
        tmp_path / "s.tar",
        {"0.jpg": b"x", "0.cls": b"\xff", "1.jpg": b"x", "1.cls": b"1234", "2.cls": b"5", "2.jpg": b"x"},
    )
    assert errors(path, tmp_path / "out") == {}
    rows = plan_rows(path, tmp_path / "out", "cls", on_bad_line="row")
    assert [row["_hublabel_error"] for row in rows] == [
        None,
        "byte 1536 of s.tar: '0.cls' is not UTF-8",
        None,
        "byte 3584 of s.tar: '1.cls' is larger than 0 MiB",
        None,
    ]  # fmt: skip


# Reading a member.


def reason(uri: str, max_bytes: int = 1000) -> tuple[str, str]:
    with pytest.raises(ImageError) as error:
        read_bytes(uri, max_bytes)
    assert error.value.stage == "read"
    return error.value.type, error.value.message


def test_a_member_is_read_with_one_seek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar(tmp_path / "s.tar", {f"{number}.jpg": b"%d" % number for number in range(9)})
    source = plan_table(path, tmp_path / "out")[0]["_hublabel_source"][7].as_py()
    monkeypatch.setattr(tar_members, "members", lambda _: pytest.fail("the archive is searched"))
    assert read_bytes(source, 1) == b"7"
    assert reason(source, 0) == ("too_large", "1 bytes; image.max_bytes is 0")


def test_an_archive_that_changed_gives_no_neighbours_bytes(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {"012.jpg": b"one", "021.jpg": b"two"})
    first, second = plan_table(path, tmp_path / "out")[0]["_hublabel_source"].to_pylist()
    changed = ("changed", "the archive has changed: '012.jpg' is not where it was")
    make_tar(path, {"021.jpg": b"two", "012.jpg": b"one"})
    assert reason(first) == changed
    make_tar(path, {"012.jpg": b"four", "021.jpg": b"two"})
    assert reason(first) == changed
    path.write_bytes(path.read_bytes()[:700])
    assert reason(second) == ("changed", "the archive has changed: '021.jpg' is not where it was")
    path.unlink()
    assert reason(first) == ("not_found", "no such file")


def test_reading_by_name(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar#y.tar", {"a.jpg": b"a", "x.tar#b.jpg": b"b"})
    assert read_bytes(f"{path}#a.jpg", 9) == b"a"
    assert read_bytes(f"{path}#x.tar#b.jpg", 9) == b"b"
    (tmp_path / "z.tar#c.jpg").write_bytes(b"a file")
    assert read_bytes(f"{tmp_path}/z.tar#c.jpg", 9) == b"a file"
    assert reason(f"{path}#none.jpg") == reason(f"{tmp_path}/none.tar#a.jpg") == ("not_found", "no such file")
    make_tar(path, {"a.jpg": b"another", "n.jpg": b"new"})
    assert read_bytes(f"{path}#n.jpg", 9) == b"new"
    path.write_bytes(b"no tar")
    assert reason(f"{path}#a.jpg")[0] == "damaged_tar"
    with open(path, "rb") as file, pytest.raises(DamagedTarError, match="it is not an uncompressed tar archive"):
        list(members(file))
