"""Folders, globs and single images: which files become rows, in which order, and what is counted as left out."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.inputs import IMAGE_SUFFIXES, find_inputs, folders, read_input


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def read(path: Path | str, skip: Path | None = None) -> tuple[list[str], dict[str, int]]:
    """URIs and counts of what was left out."""
    left_out: Counter[str] = Counter()
    (source,) = find_inputs(str(path))
    batches = read_input(source, left_out, None if skip is None else str(skip))
    return [uri for batch in batches for uri in batch.column("uri").to_pylist()], dict(left_out)


def names(path: Path | str, root: Path, skip: Path | None = None) -> list[str]:
    return [os.path.relpath(uri, root) for uri in read(path, skip)[0]]


def test_folder_is_sorted_by_path_components(tmp_path: Path) -> None:
    # as plain strings a-b/ and a.jpg would come before a/
    touch(tmp_path, "a/z.jpg", "a.jpg", "a-b/x.jpg", "Z.jpg", "a/b/c.jpg", "é.jpg", "a/b.jpg", "b/10.jpg", "b/9.jpg")
    assert names(tmp_path, tmp_path) == [
        "Z.jpg",
        "a/b/c.jpg",
        "a/b.jpg",
        "a/z.jpg",
        "a-b/x.jpg",
        "a.jpg",
        "b/10.jpg",
        "b/9.jpg",
        "é.jpg",
    ]


def test_folder_takes_every_known_suffix_in_any_case(tmp_path: Path) -> None:
    wanted = [*sorted(f"x{suffix}" for suffix in IMAGE_SUFFIXES), "y.JPG", "z.JpEg"]
    touch(tmp_path, *wanted, "notes.txt", "README", "archive.jpg.zip", "trailing.", "x.jpg~")
    assert names(tmp_path, tmp_path) == wanted
    assert read(tmp_path)[1] == {"unknown_suffix": 5}
    assert {".jpg", ".jfif", ".webp", ".avif", ".tiff", ".dcm", ".exr", ".hdr"} <= IMAGE_SUFFIXES


def test_folder_leaves_hidden_files_and_folders_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".git/c.jpg", ".git/d.jpg", "sub/.jpg", "sub/._a.jpg")
    assert names(tmp_path, tmp_path) == ["a.jpg"]
    assert read(tmp_path)[1] == {"hidden": 4}


def test_folder_that_is_itself_hidden_is_read(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/photos/a.jpg")
    assert names(tmp_path / ".cache", tmp_path) == [".cache/photos/a.jpg"]


def test_folder_follows_links_to_files_and_keeps_broken_ones(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/real.bin", "photos/a.jpg")
    (tmp_path / "photos/b.jpg").symlink_to(tmp_path / "elsewhere/real.bin")
    (tmp_path / "photos/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "photos/itself.jpg").symlink_to(tmp_path / "photos/itself.jpg")
    assert names(tmp_path / "photos", tmp_path / "photos") == ["a.jpg", "b.jpg", "broken.jpg", "itself.jpg"]


def test_folder_follows_links_to_folders_once_and_never_loops(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/1.jpg", "photos/b/2.jpg", "elsewhere/3.jpg")
    (tmp_path / "photos/a/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/b/a").symlink_to(tmp_path / "photos/a")
    (tmp_path / "photos/c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/d").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "photos", tmp_path / "photos") == ["a/1.jpg", "b/2.jpg", "c/3.jpg"]
    assert read(tmp_path / "photos")[1] == {"folder_seen_before": 3}


def test_folder_given_by_a_link_keeps_the_name_it_was_given_by(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read(f"{tmp_path}/link/")[0] == [f"{tmp_path}/link/a.jpg"]


def test_folder_does_not_enter_the_run_s_own_output(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/b.jpg", "z/c.jpg")
    assert names(tmp_path, tmp_path, skip=tmp_path / "out") == ["a.jpg", "z/c.jpg"]
    assert names(tmp_path / "out", tmp_path, skip=tmp_path / "out") == ["out/b.jpg"]
    assert names(tmp_path, tmp_path, skip=tmp_path / "not yet") == ["a.jpg", "out/b.jpg", "z/c.jpg"]


def test_folder_leaves_sockets_and_pipes_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tmp_path / "socket.jpg"))
        assert names(tmp_path, tmp_path) == ["a.jpg"]
        assert read(tmp_path)[1] == {"not_a_file": 2}


def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    odd = [b"caf\xe9 100%.jpg", "日本.jpg".encode(), b"line\nbreak.jpg", b"space at end .jpg", b"#?%41.jpg"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    uris, left_out = read(tmp_path)
    assert uris == [
        f"{tmp_path}/#?%41.jpg",
        f"file://{tmp_path}/caf%E9%20100%25.jpg",
        f"{tmp_path}/line\nbreak.jpg",
        f"{tmp_path}/space at end .jpg",
        f"{tmp_path}/日本.jpg",
    ]
    assert left_out == {}


def test_a_huge_folder_is_sorted_in_packed_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [f"{number:03}.jpg" for number in range(50)]
    touch(tmp_path, *reversed(wanted), "020/a.jpg", "020-b/c.jpg")
    wanted[20:21] = ["020/a.jpg", "020-b/c.jpg", "020.jpg"]
    assert names(tmp_path, tmp_path) == wanted
    monkeypatch.setattr(folders, "_PACK_ENTRIES", 7)
    assert names(tmp_path, tmp_path) == wanted


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("*", ["a.jpg", "b.jpg", "notes.md"]),
        ("[!a].jpg", ["b.jpg"]),
        ("?.jpg", ["a.jpg", "b.jpg"]),
        ("*/*.jpg", ["linked/e.jpg", "x/c.jpg"]),
        ("x/*.jpg", ["x/c.jpg"]),
        ("x/**/d.jpg", ["x/y/d.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "x/c.jpg", "x/y/d.jpg"]),
        ("**", ["a.jpg", "b.jpg", "notes.md", "x/c.jpg", "x/y/d.jpg"]),
        ("**/**/x/**/*.jpg", ["x/c.jpg", "x/y/d.jpg"]),
        ("x/**/y/**/*.jpg", ["x/y/d.jpg"]),
        (".*.jpg", [".hidden.jpg"]),
        (".h*/*", [".hide/f.jpg"]),
        ("./x/../*.jpg", ["a.jpg", "b.jpg"]),
    ],
)
def test_glob(tmp_path: Path, pattern: str, wanted: list[str]) -> None:
    root = tmp_path / "photos"
    touch(root, "a.jpg", "b.jpg", "notes.md", "x/c.jpg", "x/y/d.jpg", ".hidden.jpg", ".hide/f.jpg", "x/.g.jpg")
    touch(tmp_path, "elsewhere/e.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(f"{root}/{pattern}", root) == wanted


def test_glob_counts_folders_and_pipes_it_matches(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "folder.jpg/b.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(f"{tmp_path}/*.jpg", tmp_path) == ["a.jpg"]
    assert read(f"{tmp_path}/*.jpg")[1] == {"folder": 1, "not_a_file": 1}


def test_a_name_with_brackets_that_exists_is_no_glob(tmp_path: Path) -> None:
    touch(tmp_path, "[2024]/a.jpg", "2/b.jpg", "2/[x].jpg")
    assert names(tmp_path / "[2024]", tmp_path) == ["[2024]/a.jpg"]
    assert names(tmp_path / "2" / "[x].jpg", tmp_path) == ["2/[x].jpg"]


def test_one_image_is_one_row(tmp_path: Path) -> None:
    touch(tmp_path, "a.PNG")
    assert read(tmp_path / "a.PNG") == ([f"{tmp_path}/a.PNG"], {})


def test_relative_and_file_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "my photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    wanted = [f"{tmp_path}/my photos/a.jpg"]
    assert read("my photos")[0] == wanted
    assert read("./my photos/*.jpg")[0] == wanted
    assert read((tmp_path / "my photos").as_uri())[0] == wanted
    assert read(f"file://localhost{tmp_path}/my%20photos/a.jpg")[0] == wanted


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "'' names nothing"),
        ("nothing-here", "'nothing-here' does not exist"),
        ("nothing-here.csv", "'nothing-here.csv' does not exist"),
        ("table.JSON", "'table.JSON': .json files are not supported"),
        ("shard.tar.gz", "'shard.tar.gz': .tar.gz files are not supported"),
        ("table.parquet.zst", "'table.parquet.zst': .parquet.zst files are not supported"),
        ("a.jpg.gz", "'a.jpg.gz': .jpg.gz files are not supported"),
        ("*.zip", "'*.zip': .zip files are not supported"),
        ("hdfs://nn/photos", "'hdfs://nn/photos': hdfs:// is not supported here: list its images in a text file"),
        ("azfs://a/c/*.jpg", "'azfs://a/c/*.jpg': azfs:// is not supported here: list its images in a text file"),
        ("s3://", "'s3://' must name a bucket, without wildcards: s3://BUCKET/..."),
        ("GS:///photos", "'GS:///photos' must name a bucket, without wildcards: gs://BUCKET/..."),
        ("s3://photos-*/a.jpg", "'s3://photos-*/a.jpg' must name a bucket, without wildcards: s3://BUCKET/..."),
        ("https://example.com/a.jpg", "'https://example.com/a.jpg': https:// is not supported here"),
        ("file://host/a.jpg", "'file://host/a.jpg': file:// is not supported here"),
    ],
)
def test_what_cannot_be_an_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    touch(tmp_path, "a.jpg", "table.JSON", "shard.tar.gz", "table.parquet.zst", "a.jpg.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        find_inputs(path)
    assert str(error.value).startswith(f"input.path: {message}")
    with pytest.raises(UsageError) as error:
        find_inputs(["a.jpg", path])
    assert str(error.value).startswith(f"input.path[1]: {message}")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(UsageError, match=r"input\.path is an empty list; it takes a folder of images, a glob"):
        find_inputs([])


def test_a_folder_that_cannot_be_listed_ends_the_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    listed = os.scandir

    # root, as whom tests may run, may list everything
    def scandir(path: bytes) -> object:
        if path.endswith(b"secret"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"the folder '.*/secret' cannot be listed: Permission denied"):
        read(tmp_path)
