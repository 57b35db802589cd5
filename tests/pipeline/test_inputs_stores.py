"""Folders and globs on object stores: moto's S3 and fake-gcs-server, real servers on loopback."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.inputs import find_inputs, folders, read_input
from pipeline.plan import make_plan
from tests.object_store import Answer, ObjectStore
from tests.pipeline.lake import Lake, names, read, refusal
from transforms import read as read_module
from transforms import storage_gcs, storage_s3
from transforms.read import read_bytes
from transforms.storage import open_object_storage


def test_folder(lake: Lake) -> None:
    odd = ["[1]*?.jpg", "50%20.jpg", "a b.jpg", "é.jpg", "日本.jpg", "#x.png", "d//e.jpg"]
    lake.put_all("a/z.jpg", "a.jpg", "a-b/x.JPG", "Z.jpg", "a/b/c.jpg", "notes.txt", "a/", "a/README", *odd)
    lake.put_all(".x.jpg", "a/.git/1.jpg", "a/.git/x/2.jpg", "a/.git-x.jpg", "b/.c/", "b/.c/d/e.jpg")
    wanted = sorted(["a/z.jpg", "a.jpg", "a-b/x.JPG", "Z.jpg", "a/b/c.jpg", *odd], key=str.encode)
    assert wanted.index("a-b/x.JPG") < wanted.index("a.jpg") < wanted.index("a/b/c.jpg")  # unlike a local folder's
    for path in (lake.root, f"{lake.root}/", lake.root.upper()[:2] + lake.root[2:]):
        assert names(path, lake) == wanted
    assert read(lake.root)[1] == {"hidden": 4, "unknown_suffix": 2}
    assert names(f"{lake.root}/a", lake) == ["a/b/c.jpg", "a/z.jpg"]  # and not what begins with a


def test_a_whole_bucket(google_store: ObjectStore) -> None:
    storage_gcs.client().create_bucket("whole")
    for name in ("a.jpg", "/b.jpg", "c/d.jpg"):
        open_object_storage("gs://whole").replace(name, b"x")
    for path in ("gs://whole", "gs://whole/"):
        assert read(path)[0] == ["gs://whole//b.jpg", "gs://whole/a.jpg", "gs://whole/c/d.jpg"]
    assert read("gs://whole/**/b.jpg")[0] == ["gs://whole//b.jpg"]
    assert read_bytes("gs://whole//b.jpg", 9) == b"x"


GLOBS = {
    "*.jpg": ["a.jpg", "b.jpg"],
    "*": ["a.jpg", "b.jpg", "notes.md"],
    "[!a].jpg": ["b.jpg"],
    "?.jpg": ["a.jpg", "b.jpg"],
    "*/*.jpg": ["x/c.jpg"],
    "x/*.jpg": ["x/c.jpg"],
    "x*/*.jpg": ["x/c.jpg"],
    "x/**/d.jpg": ["x/y/d.jpg"],
    "**/*.jpg": ["a.jpg", "b.jpg", "x/c.jpg", "x/y/d.jpg"],
    "**": ["a.jpg", "b.jpg", "notes.md", "x/c.jpg", "x/y/d.jpg"],
    "**/**/x/**/*.jpg": ["x/c.jpg", "x/y/d.jpg"],
    "x/**/y/**/*.jpg": ["x/y/d.jpg"],
    ".*.jpg": [".hidden.jpg"],
    ".h*/*": [".hide/f.jpg"],
    "x/y/": ["x/y/d.jpg"],
    "*/y/*": ["x/y/d.jpg"],
}


def test_globs(lake: Lake) -> None:
    lake.put_all("a.jpg", "b.jpg", "notes.md", "x/", "x/c.jpg", "x/y/d.jpg", ".hidden.jpg", ".hide/f.jpg", "x/.g.jpg")
    assert {pattern: names(f"{lake.root}/{pattern}", lake) for pattern in GLOBS} == GLOBS
    lake.server.well()
    names(f"{lake.root}/x/y*/*.jpg", lake)
    assert f"prefix={lake.name}%2Fx%2Fy&" in lake.server.requests[-1] + "&"  # no more than the pattern's beginning


def test_a_runs_own_output_below_a_stored_folder_is_passed_over(lake: Lake) -> None:
    lake.put_all("in/a.jpg", "in/out/b.jpg", "in/out/run.yaml", "in/out.jpg", "in/out2/c.jpg", "in/out/x/.d.jpg")

    def found(path: str, skip: str) -> tuple[list[str], dict[str, int]]:
        left_out: Counter[str] = Counter()
        [source] = find_inputs(f"{lake.root}/{path}")
        batches = read_input(source, left_out, skip)
        uris = [uri for batch in batches for uri in batch.column("uri").to_pylist()]
        return [uri.removeprefix(f"{lake.root}/") for uri in uris], dict(left_out)

    rest = (["in/a.jpg", "in/out.jpg", "in/out2/c.jpg"], {})
    assert found("in/", f"{lake.root}/in/out") == found("in", f"{lake.root}/in/out/") == rest
    whole = (["in/a.jpg", "in/out.jpg", "in/out/b.jpg", "in/out2/c.jpg"], {"unknown_suffix": 1, "hidden": 1})
    assert found("in/", f"{lake.root}/other") == whole
    assert found("in/", f"{lake.root}/in") == found("in/", "/tmp/in/out") == whole
    assert found("in/out/", f"{lake.root}/in/out") == (["in/out/b.jpg"], {"unknown_suffix": 1, "hidden": 1})


def test_keys_match_as_local_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    inner, last = ["a", "ab", ".a", "[a]", "d.jpg"], ["a.jpg", "b", "c.txt", ".b.jpg", "[a].jpg"]
    files = {"/".join([*chance.choices(inner, k=chance.randint(0, 3)), chance.choice(last)]) for _ in range(300)}
    keys = sorted(f"s3://bucket/{file}".encode() for file in files)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    def listed(start: bytes) -> Iterator[bytes]:
        return (key for key in keys if key.startswith(start))

    def relative(paths: Iterator[bytes], root: bytes) -> list[bytes]:
        return [path.removeprefix(root) for path in paths]

    monkeypatch.setattr(folders, "walk_objects", listed)
    matches = 0
    for _ in range(300):
        components = ["*", "**", "a*", "?", "[!a]", "[ab]", ".*", "a", "*.jpg", "[[]a]"]
        pattern = "/".join([*chance.choices(components, k=chance.randint(0, 3)), chance.choice(["*", "**", "*.jpg"])])
        local = relative(folders.match_glob(f"{tmp_path}/{pattern}".encode(), Counter()), bytes(tmp_path))
        remote = relative(folders.match_glob(f"s3://bucket/{pattern}".encode(), Counter()), b"s3://bucket")
        assert remote == sorted(local), pattern
        matches += len(remote)
    assert matches > 2000
    counts: list[Counter[str]] = [Counter(), Counter()]
    local = relative(folders.walk_folder(bytes(tmp_path), counts[0]), bytes(tmp_path))
    assert relative(folders.walk_folder(b"s3://bucket", counts[1]), b"s3://bucket") == sorted(local)
    assert counts[0] == counts[1]


def test_what_stands_there_decides(lake: Lake) -> None:
    lake.put_all("[2024]/a.jpg", "2/b.jpg", "2/[x].jpg", "one.PNG", "photos.jpg/c.jpg", "list.csv.d/x.jpg")
    assert names(f"{lake.root}/[2024]", lake) == ["[2024]/a.jpg"]
    assert names(f"{lake.root}/2/[x].jpg", lake) == ["2/[x].jpg"]
    assert names(f"{lake.root}/one.PNG", lake) == ["one.PNG"]
    assert names(f"{lake.root}/photos.jpg", lake) == ["photos.jpg/c.jpg"]
    lake.put("photos.jpg")
    assert names(f"{lake.root}/photos.jpg", lake) == ["photos.jpg"]
    assert names(f"{lake.root}/photos.jpg/", lake) == ["photos.jpg/c.jpg"]
    for path in ("list.csv", "2/b", "nothing/", "photos.jpg/c.jpg/"):
        assert refusal(f"{lake.root}/{path}").startswith(f"'{lake.root}/{path}' does not exist; ")


def test_lists_are_longer_than_a_page(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [f"{number}.jpg" for number in range(7)]
    lake.put_all(*wanted)
    monkeypatch.setattr(storage_s3, "PAGE", 3)
    monkeypatch.setattr(storage_gcs, "PAGE", 3)
    assert names(f"{lake.root}/*.jpg", lake) == wanted
    assert len(lake.server.requests) == 2 + 3  # what is there, then pages


def test_a_list_that_breaks_off_is_no_shorter_list(
    s3_lake: Lake, monkeypatch: pytest.MonkeyPatch, without_pauses: None
) -> None:
    s3_lake.put_all(*(f"{number}.jpg" for number in range(7)))
    monkeypatch.setattr(storage_s3, "PAGE", 3)
    pages: list[str] = []

    def refuse(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        pages.extend(["page"] if method == "GET" else [])
        return (500, "InternalError") if len(pages) > 3 else None

    s3_lake.server.refuse = refuse
    told = f"'{s3_lake.root}/' cannot be listed: {s3_lake.root}/: InternalError: by request of the test"
    assert refusal(s3_lake.root) == f"input.path: {told}"
    s3_lake.server.well()
    made = storage_s3.client().meta.events
    made.register("after-call.s3.ListObjectsV2", forget_token, unique_id="forget")
    try:
        assert refusal(f"{s3_lake.root}/").endswith(f"{s3_lake.root}/: the store broke off its list")
    finally:
        made.unregister("after-call.s3.ListObjectsV2", unique_id="forget")


def forget_token(parsed: dict[str, object], **_: object) -> None:
    parsed.pop("NextContinuationToken", None)


# What cannot be read.


def test_a_bucket_that_is_not_there(lake: Lake) -> None:
    scheme = lake.server.scheme
    for path in (
        f"{scheme}://no-such-bucket",
        f"{scheme}://no-such-bucket/a/*.jpg",
        f"{scheme}://no-such-bucket/a.csv",
    ):
        said = refusal(path)
        assert said.startswith(f"'{path}' cannot be read: {scheme}://no-such-bucket/")
        assert "no such object or bucket" in said or "NoSuchBucket: The specified bucket does not exist" in said
    assert "cannot be read: " in refusal(f"{scheme}://b_/a.jpg")  # no such name can be


@pytest.mark.parametrize("path", ["photos/", "photos/*.jpg", "list.csv"])
def test_no_permission(lake: Lake, path: str) -> None:
    lake.put_all("photos/a.jpg", "list.csv")
    lake.server.refuse = lambda *_: (403, "AccessDenied")
    said = refusal(f"{lake.root}/{path}")
    assert said.startswith(f"'{lake.root}/{path}' cannot be read: {lake.root}/")
    assert "access denied" in said if lake.server.scheme == "s3" else "by request of the test" in said


def test_a_list_can_be_read_without_permission_to_list(s3_lake: Lake) -> None:
    s3_lake.put("list.txt", "a.jpg\n")
    s3_lake.server.refuse = lambda method, path, headers: (403, "AccessDenied") if path.count("/") < 2 else None
    assert names(f"{s3_lake.root}/list.txt", s3_lake) == ["a.jpg"]


def test_who_may_only_list_is_told_so(lake: Lake) -> None:
    lake.put_all("photos/a.jpg", "list.csv")
    place = lake.root.partition("://")[2]
    lists = [f"/{place.partition('/')[0]}", f"/storage/v1/b/{place.partition('/')[0]}/o"]
    lake.server.refuse = lambda method, path, headers: None if path.rstrip("/") in lists else (403, "AccessDenied")
    assert names(f"{lake.root}/photos", lake) == ["photos/a.jpg"]
    assert refusal(f"{lake.root}/list.csv").startswith(f"'{lake.root}/list.csv' cannot be read: {lake.root}/list.csv: ")
    assert refusal(f"{lake.root}/none.csv").startswith(f"'{lake.root}/none.csv' cannot be read: {lake.root}/none.csv: ")


@pytest.mark.parametrize(("scheme", "module", "extra"), [("s3", "boto3", "aws"), ("gs", "google.cloud.storage", "gcp")])
def test_a_library_that_is_missing(scheme: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "_is_installed", lambda found: found != module)
    needs = f"{scheme}:// needs an extra that is not installed: pip install 'hublabel[{extra}]'"
    assert refusal(f"{scheme}://bucket/photos/") == f"'{scheme}://bucket/photos/': {needs}"


def test_an_input_without_images(lake: Lake, tmp_path: Path) -> None:
    lake.put_all("photos/a.txt", "photos/.b.jpg", "photos/", "list.txt")
    for path, said in {
        "photos": "holds no image (left out: 1 hidden, 1 of other suffixes)",
        "photos/*.jpg": "matches no file",
        "nothing/*.jpg": "matches no file",
        "list.txt": "holds no line",
    }.items():
        with pytest.raises(UsageError) as error:
            make_plan(f"{lake.root}/{path}", tmp_path / "out", batch_size=1)
        assert str(error.value).startswith(f"input.path: '{lake.root}/{path}' {said}; input.path takes a folder")
