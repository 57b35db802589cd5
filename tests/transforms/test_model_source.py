"""Model files from where workers can reach them."""

from __future__ import annotations

import hashlib
import shutil
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.object_store import BUCKET, ObjectStore
from transforms.model import ModelError, ModelSpec, load_classifier
from transforms.model_source import ModelSource, ModelSourceError, local_model
from transforms.storage import open_storage

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"", "variables/variables.data": b"12345678"}


def source_of(uri: str, files: dict[str, bytes] = FILES) -> ModelSource:
    digests = tuple((name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items()))
    return ModelSource(uri, digests, hashlib.sha256(repr(digests).encode()).hexdigest())


def files_in(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def staged(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSource:
    """The files in a bucket of S3, none of them on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = source_of(f"s3://{BUCKET}/{uuid.uuid4().hex}/model")
    storage = open_storage(source.uri)
    for name, data in FILES.items():
        assert storage.put_if_absent(name, data)
    object_store.well()
    return source


def gets(store: ObjectStore) -> int:
    return sum(request.startswith("GET ") for request in store.requests)


def test_files_are_fetched_once_and_kept(staged: ModelSource, object_store: ObjectStore) -> None:
    folder = local_model(staged)
    assert files_in(folder) == FILES
    fetched = gets(object_store)
    assert fetched == len(FILES)
    assert local_model(staged) == folder
    assert gets(object_store) == fetched
    assert [path.name for path in Path(folder).parent.iterdir() if not path.name.endswith(".lock")] == [
        staged.fingerprint
    ]


@pytest.mark.parametrize("damage", ["lost", "changed", "cut"])
def test_a_damaged_copy_is_fetched_again(staged: ModelSource, object_store: ObjectStore, damage: str) -> None:
    folder = Path(local_model(staged))
    if damage == "lost":
        shutil.rmtree(folder / "variables")
    else:
        (folder / "variables" / "variables.data").write_bytes(b"1234567x" if damage == "changed" else b"1234")
    object_store.well()
    assert files_in(local_model(staged)) == FILES
    assert gets(object_store) == len(FILES)


def test_a_file_that_was_replaced_in_the_store_is_refused(staged: ModelSource, tmp_path: Path) -> None:
    open_storage(staged.uri).replace("saved_model.pb", b"another")
    with pytest.raises(ModelSourceError) as caught:
        local_model(staged)
    digests = [hashlib.sha256(data).hexdigest() for data in (b"another", b"graph")]
    assert str(caught.value) == (
        f"the model at {staged.uri}: saved_model.pb is not the file that the run began with "
        f"(sha256 {digests[0]}, not {digests[1]})"
    )
    assert files_in(str(tmp_path / "cache/hublabel/staged")) == {f".{staged.fingerprint}.lock": b""}


def test_a_file_that_is_not_in_the_store(staged: ModelSource) -> None:
    open_storage(staged.uri).delete("variables/variables.index")
    with pytest.raises(ModelSourceError, match=r"model: variables/variables.index is not there$"):
        local_model(staged)


def test_a_store_that_refuses(staged: ModelSource, object_store: ObjectStore) -> None:
    object_store.refuse = lambda method, path, headers: (403, "AccessDenied")
    with pytest.raises(ModelSourceError, match=r"model: saved_model.pb cannot be read: .* access denied"):
        local_model(staged)


def test_several_at_once_fetch_once(staged: ModelSource, object_store: ObjectStore) -> None:
    """Threads stand for processes: a lock of an open file tells them apart all the same."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(local_model(staged))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert files_in(found[0]) == FILES
    assert gets(object_store) == len(FILES)


def test_a_home_that_cannot_be_written(staged: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = local_model(staged)
    assert files_in(folder) == FILES
    assert Path(folder).parent.parent == tmp_path


def test_a_shared_folder_is_used_where_it_is(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    source = source_of(str(tmp_path))
    assert local_model(source) == str(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"newer")
    with pytest.raises(
        ModelSourceError, match=rf"the model at {tmp_path}: saved_model.pb is not the file that the run"
    ):
        local_model(source)
    (tmp_path / "saved_model.pb").unlink()
    with pytest.raises(ModelSourceError, match=r"saved_model.pb cannot be read on this worker \(no such file or"):
        local_model(source)


def test_a_model_is_loaded_from_its_source(
    object_store: ObjectStore, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = source_of(f"s3://{BUCKET}/{uuid.uuid4().hex}", files_in(str(colour_model)))
    storage = open_storage(source.uri)
    for path in colour_model.rglob("*"):
        if path.is_file():
            storage.put_if_absent(path.relative_to(colour_model).as_posix(), path.read_bytes())
    spec = ModelSpec(
        "/not/here", "serving_default", None, (("logits", "output"),), (8, 8, 3), "float32", 2, source=source
    )
    images = np.full((2, 8, 8, 3), 50, np.float32)
    assert load_classifier(spec)(images)["logits"].tolist() == [[5.0] * 3] * 2
    storage.delete("saved_model.pb")
    shutil.rmtree(tmp_path / "cache")
    assert load_classifier(spec).lengths == {"logits": 3}  # loaded already
    other = ModelSpec(
        "/not/here", "serving_default", None, (("logits", "output"),), (8, 8, 3), "float32", 4, source=source
    )
    with pytest.raises(ModelError, match=r"saved_model.pb is not there$"):
        load_classifier(other)
