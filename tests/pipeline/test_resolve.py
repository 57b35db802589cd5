import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline import resolve
from pipeline.errors import HublabelError, UsageError
from pipeline.resolve import cache_folder, resolve_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "hublabel" / "models"
    return cache_folder()


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def archive_of(folder: Path, path: Path, name: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, name)
    return path


def test_a_directory_is_itself(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    assert resolve_model(str(folder)) == str(folder)


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
    assert len(list(cache.iterdir())) == 1


def test_another_archive_at_the_same_path_is_another_model(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    first = resolve_model(str(archive_of(folder, tmp_path / "model.tar.gz", ".")))
    (folder / "saved_model.pb").write_bytes(b"another")
    second = resolve_model(str(archive_of(folder, tmp_path / "model.tar.gz", ".")))
    assert first != second
    assert (Path(first) / "saved_model.pb").read_bytes() == b"graph"


def test_two_that_unpack_at_the_same_time_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(saved_model(tmp_path / "model"), tmp_path / "model.tar.gz", ".")
    real = os.rename

    def slower(source: str, target: Path) -> None:
        monkeypatch.setattr(resolve.os, "rename", real)
        resolve_model(str(archive))  # the other process
        real(source, target)

    monkeypatch.setattr(resolve.os, "rename", slower)
    found = resolve_model(str(archive))
    assert os.listdir(cache_folder()) == [Path(found).name]


@pytest.mark.parametrize(
    ("keep", "said"),
    [(10, "is not a whole tar archive"), (150, "is not a whole tar archive"), (4000, "cannot be unpacked")],
)
def test_an_archive_cut_short_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, keep: int, said: str) -> None:
    folder = saved_model(tmp_path / "model")
    (folder / "saved_model.pb").write_bytes(os.urandom(5000))
    archive = archive_of(folder, tmp_path / "model.tar.gz", ".")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(UsageError, match=said) as caught:
        resolve_model(str(archive))
    assert str(archive) in str(caught.value)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_an_archive_cannot_write_outside(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("../../../outside.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(UsageError, match="cannot be unpacked"):
        resolve_model(str(path))
    assert list(tmp_path.rglob("outside.txt")) == []
    assert list(cache.iterdir()) == []


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("notes")
    (tmp_path / "empty").mkdir()
    allowed = "; it must be a SavedModel directory, a .tar.gz of one, or a TensorFlow Hub URL"
    for path, reason in (
        (tmp_path / "nowhere", "does not exist"),
        (text, "is not a whole tar archive"),
        (tmp_path / "empty", "holds no SavedModel (no saved_model.pb)"),
        (archive_of(tmp_path / "empty", tmp_path / "empty.tar.gz", "."), "holds no SavedModel (no saved_model.pb)"),
    ):
        with pytest.raises(UsageError) as caught:
            resolve_model(str(path))
        assert str(caught.value) == f"model.handle: {str(path)!r} {reason}{allowed}"


def fake_hub(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(resolve, "PROGRAM", program)


def test_a_url_is_resolved_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, "import sys; print('noise'); print('/cache/' + sys.argv[1].rpartition('/')[2])")
    assert resolve_model("https://tfhub.dev/someone/model/1") == "/cache/1"


def test_the_program_asks_tensorflow_hub() -> None:
    stub = "import sys, types; hub = types.ModuleType('tensorflow_hub'); hub.resolve = lambda handle: '/r/' + handle; "
    program = stub + "sys.modules['tensorflow_hub'] = hub; " + resolve.PROGRAM
    done = subprocess.run([sys.executable, "-c", program, "x"], capture_output=True, text=True, check=True)
    assert done.stdout == "/r/x\n"


def test_a_url_that_does_not_answer_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, "import sys; sys.exit('Traceback\\n  more\\nHTTPError: 403 Forbidden')")
    with pytest.raises(HublabelError) as caught:
        resolve_model("https://tfhub.dev/someone/model/1")
    assert str(caught.value) == (
        "model.handle: https://tfhub.dev/someone/model/1 could not be fetched: HTTPError: 403 Forbidden; "
        "if the link is dead, set model.handle to a local copy of the SavedModel"
    )
    assert caught.value.exit_code == 1
