"""Handles on this machine: directories, archives, and what is told of anything else."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import HublabelError, UsageError
from pipeline.handles import archive as archives
from pipeline.handles import cache as caches
from pipeline.handles.archive import ArchiveError, unpack
from pipeline.resolve import cache_folder, resolve_model
from tests.hub_server import archive_bytes

ALLOWED = (
    "; it must be a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle "
    "(docs/models.md)"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "hublabel" / "models"
    return cache_folder()


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def archive_of(folder: Path, path: Path, name: str = ".") -> Path:
    path.write_bytes(archive_bytes(folder, name))
    return path


def folders_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir()) if cache.exists() else []


def test_a_directory_is_itself(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "a model")
    assert resolve_model(str(folder)) == str(folder)
    assert resolve_model(f"file://{tmp_path}/a%20model") == str(folder)
    assert resolve_model(f"file://localhost{tmp_path}/a%20model") == str(folder)


def test_a_directory_with_the_model_one_level_below(tmp_path: Path) -> None:
    """As TensorFlow Serving has it, with a version's number."""
    folder = saved_model(tmp_path / "model" / "1")
    assert resolve_model(str(tmp_path / "model")) == str(folder)
    saved_model(tmp_path / "model" / "2")
    with pytest.raises(UsageError, match="holds no SavedModel"):
        resolve_model(str(tmp_path / "model"))


@pytest.mark.parametrize("name", [".", "efficientnet", "./"])
def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path, name: str) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz", name)
    found = Path(resolve_model(str(archive)))
    assert (found / "saved_model.pb").read_bytes() == b"graph"
    assert (found / "variables" / "variables.index").read_bytes() == b"index"
    inode = found.stat().st_ino
    assert resolve_model(str(archive)) == str(found)
    assert found.stat().st_ino == inode
    assert folders_in(cache) == [hashlib.sha256(archive.read_bytes()).hexdigest()]


def test_another_archive_at_the_same_path_is_another_model(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    first = resolve_model(str(archive_of(folder, tmp_path / "model.tar.gz")))
    (folder / "saved_model.pb").write_bytes(b"another")
    second = resolve_model(str(archive_of(folder, tmp_path / "model.tar.gz")))
    assert first != second
    assert (Path(first) / "saved_model.pb").read_bytes() == b"graph"


def test_the_digest_of_an_archive_is_checked(tmp_path: Path, cache: Path) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(UsageError) as caught:
        resolve_model(str(archive), "0" * 64)
    assert str(caught.value) == (
        f"model.sha256: {archive} has the digest {digest}, not {'0' * 64}: it is another archive, or damaged"
    )
    assert folders_in(cache) == []
    found = resolve_model(str(archive), digest.upper())
    assert resolve_model(str(archive), digest) == found
    with pytest.raises(UsageError, match="has the digest"):
        resolve_model(str(archive), "0" * 64)
    assert resolve_model(str(archive), digest) == found


def test_a_digest_of_a_directory_is_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    for handle in (str(folder), "kaggle://o/m/tensorFlow2/v/1"):
        with pytest.raises(UsageError) as caught:
            resolve_model(handle, "0" * 64)
        assert str(caught.value) == (
            f"model.sha256: it is compared with a tar archive, and {handle} is none; remove the key"
        )


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (10, "is not a whole tar archive"),
        (150, "is not a whole tar archive"),
        (4000, "cannot be unpacked: it is cut short"),
    ],
)
def test_an_archive_cut_short_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, keep: int, said: str) -> None:
    folder = saved_model(tmp_path / "model")
    (folder / "saved_model.pb").write_bytes(os.urandom(5000))
    archive = archive_of(folder, tmp_path / "model.tar.gz")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(UsageError, match=said) as caught:
        resolve_model(str(archive))
    assert str(archive) in str(caught.value)
    assert folders_in(cache) == []


def test_every_cut_of_an_archive_is_noticed(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    (folder / "saved_model.pb").write_bytes(os.urandom(1024))
    whole = archive_bytes(folder)
    path = tmp_path / "cut.tar.gz"
    for keep in range(0, len(whole), 7):
        path.write_bytes(whole[:keep])
        with pytest.raises(ArchiveError):
            unpack(path, tmp_path / str(keep))


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("../../../outside.txt")], "'../../../outside.txt' would be extracted to"),
        ([member("in", tarfile.SYMTYPE, link="/etc")], "'in' is a link or a device, which no SavedModel has"),
        ([member("in", tarfile.SYMTYPE, link="..")], "'in' is a link or a device"),
        ([member("in", tarfile.LNKTYPE, link="saved_model.pb")], "'in' is a link or a device"),
        ([member("in", tarfile.CHRTYPE)], "'in' is a link or a device"),
        ([member("in", tarfile.FIFOTYPE)], "'in' is a link or a device"),
        ([member("bomb", size=archives.MAX_BYTES + 1)], "it holds more than 21,474,836,480 bytes or 10,000 files"),
    ],
    ids=["outside", "link", "upwards", "hard-link", "device", "fifo", "bomb"],
)
def test_an_archive_that_is_no_model_is_not_unpacked(
    tmp_path: Path, cache: Path, members: list[tarfile.TarInfo], said: str
) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info in members:
            tar.addfile(info)
    with pytest.raises(UsageError) as caught:
        resolve_model(str(path))
    assert f"{str(path)!r} cannot be unpacked: " in str(caught.value)
    assert said in str(caught.value)
    assert list(tmp_path.rglob("outside.txt")) == []
    assert folders_in(cache) == []


def test_bounds_of_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            tar.addfile(member(f"/absolute/{number}", size=10), io.BytesIO(b"x" * 10))
    unpack(path, tmp_path / "whole", max_bytes=30, max_files=3)
    assert (tmp_path / "whole" / "absolute" / "2").read_bytes() == b"x" * 10
    for bounds in ({"max_bytes": 29}, {"max_files": 2}):
        target = tmp_path / f"part-{next(iter(bounds))}"
        with pytest.raises(ArchiveError, match="it holds more than"):
            unpack(path, target, **bounds)
        assert not (target / "absolute" / "2").exists()


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("notes")
    (tmp_path / "empty").mkdir()
    for path, reason in (
        (tmp_path / "nowhere", "does not exist"),
        (text, "is not a whole tar archive"),
        (tmp_path / "empty", "holds no SavedModel (no saved_model.pb)"),
    ):
        with pytest.raises(UsageError) as caught:
            resolve_model(str(path))
        assert str(caught.value) == f"model.handle: {str(path)!r} {reason}{ALLOWED}"
    archive = archive_of(tmp_path / "empty", tmp_path / "empty.tar.gz")
    with pytest.raises(UsageError) as caught:
        resolve_model(str(archive))
    assert str(caught.value) == f"model.handle: {str(archive)!r} holds no SavedModel (no saved_model.pb){ALLOWED}"


@pytest.mark.parametrize("handle", ["ftp://host/model.tar.gz", "hdfs://a/b", "://x"])
def test_an_unknown_scheme_is_refused(handle: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_model(handle)
    assert str(caught.value) == f"model.handle: {handle!r} is not valid{ALLOWED}"


# --- the cache


@pytest.mark.parametrize(
    "damage", ["emptied", "gone", "no graph", "no variables", "shorter", "old record", "record damaged"]
)
def test_a_cached_model_that_is_not_whole_is_unpacked_again(tmp_path: Path, cache: Path, damage: str) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz")
    found = Path(resolve_model(str(archive)))
    record = next(cache.glob("*.files.json"))
    assert json.loads(record.read_text())["files"] == {"saved_model.pb": 5, "variables/variables.index": 5}
    if damage in ("emptied", "gone", "no graph"):
        (found / "saved_model.pb").unlink()
    if damage in ("emptied", "gone", "no variables"):
        (found / "variables" / "variables.index").unlink()
    if damage in ("emptied", "gone"):
        (found / "variables").rmdir()
    if damage == "gone":
        found.rmdir()
    if damage == "shorter":
        (found / "saved_model.pb").write_bytes(b"gr")
    if damage == "old record":
        record.write_text('{"files": {"another": 1}, "sha256": null}')
    if damage == "record damaged":
        record.write_text("[]")
    assert resolve_model(str(archive)) == str(found)
    assert (found / "saved_model.pb").read_bytes() == b"graph"
    assert (found / "variables" / "variables.index").read_bytes() == b"index"
    assert folders_in(cache) == [found.name]


def test_what_a_killed_process_left_goes(tmp_path: Path, cache: Path) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz")
    left = cache / f".{hashlib.sha256(archive.read_bytes()).hexdigest()}.abc.part"
    left.mkdir(parents=True)
    (left / "fetched").write_bytes(b"half")
    (cache / "another.part").mkdir()
    found = resolve_model(str(archive))
    assert folders_in(cache) == sorted([Path(found).name, "another.part"])


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz")
    with pytest.raises(HublabelError) as caught:
        resolve_model(str(archive))
    assert str(caught.value) == f"the cache of models {tmp_path}/file/hublabel/models: Not a directory"


def test_a_check_that_raises_ends_the_wait_for_a_lock(tmp_path: Path, cache: Path) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz")
    folder = cache / hashlib.sha256(archive.read_bytes()).hexdigest()
    cache.mkdir(parents=True)

    class Ended(Exception):
        pass

    def check() -> None:
        raise Ended

    with caches.locked(folder, "", print, lambda: None), pytest.raises(Ended):
        resolve_model(str(archive), check=check)
    assert Path(resolve_model(str(archive))) == folder
