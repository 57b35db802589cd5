"""Handles that others fetch for us: Kaggle's by kagglehub, gs:// by TensorFlow in a process of its own."""

import os
import sys
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.handles import gcs
from pipeline.resolve import resolve_model
from tests.pipeline.handles.checks import assert_same, files_of, key, refused

# --- gs://


def test_gs_is_copied_by_another_process(
    saved_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same program, with another TensorFlow-like reader: there is no bucket here."""
    program = f"import sys, shutil; shutil.copytree({str(saved_model)!r}, sys.argv[2])"
    monkeypatch.setattr(gcs.copy_tree, "__defaults__", ((sys.executable, "-c", program),))
    found = resolve_model("gs://bucket/models/m")
    assert found == str(cache / key("gs://bucket/models/m"))
    assert_same(found, saved_model)
    assert refused("gs://bucket/another", "0" * 64) == (
        "model.sha256: it is compared with a tar archive, and gs://bucket/another is none; remove the key"
    )
    failing = "import sys; sys.exit('Traceback\\n  more\\nnot found: gs://bucket/third')"
    monkeypatch.setattr(gcs.copy_tree, "__defaults__", ((sys.executable, "-c", failing),))
    assert refused("gs://bucket/third") == (
        "model.handle: gs://bucket/third could not be fetched: not found: gs://bucket/third; if the link is dead, "
        "set model.handle to a local copy: a SavedModel directory or a .tar.gz of one"
    )
    silent = "import time; time.sleep(60)"
    monkeypatch.setattr(gcs.copy_tree, "__defaults__", ((sys.executable, "-c", silent),))
    monkeypatch.setattr(gcs, "SILENCE", 0.0)
    assert "nothing came for 0 seconds" in refused("gs://bucket/fourth")


def test_the_program_copies_what_tensorflow_can_read(saved_model: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    from pipeline.handles import tensorflow_copy

    for name, content in files_of(saved_model).items():
        tf.io.gfile.makedirs(f"ram://bucket/m/{os.path.dirname(name)}".rstrip("/"))
        with tf.io.gfile.GFile(f"ram://bucket/m/{name}", "wb") as file:
            file.write(content)
    assert tensorflow_copy.main(["ram://bucket/m", str(tmp_path / "copied")]) == 0
    assert_same(tmp_path / "copied", saved_model)
    assert tensorflow_copy.main(["ram://bucket/m/saved_model.pb", str(tmp_path / "file")]) == 0
    assert (tmp_path / "file").read_bytes() == (saved_model / "saved_model.pb").read_bytes()


def test_the_program_tells_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.handles import tensorflow_copy

    assert tensorflow_copy.main([str(tmp_path / "nowhere"), str(tmp_path / "copied")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/nowhere; No such file or directory\n"


# --- Kaggle

KAGGLE = "kaggle://google/mobilenet-v2/tensorFlow2/100-224-classification/2"


@pytest.fixture
def kaggle_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    return tmp_path / "kaggle" / "models" / "google" / "mobilenet-v2" / "tensorFlow2" / "100-224-classification" / "2"


def test_a_kaggle_handle_is_found_in_kagglehubs_cache(saved_model: Path, kaggle_cache: Path) -> None:
    kaggle_cache.parent.mkdir(parents=True)
    saved_model.rename(kaggle_cache)
    (kaggle_cache.parent / "2.complete").touch()
    assert resolve_model(KAGGLE) == str(kaggle_cache)


def test_an_emptied_kaggle_folder_is_asked_for_again(
    saved_model: Path, kaggle_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kagglehub

    asked: list[tuple[str, bool]] = []

    def model_download(name: str, force_download: bool) -> str:
        asked.append((name, force_download))
        if force_download:
            saved_model.rename(kaggle_cache)
        return str(kaggle_cache)

    monkeypatch.setattr(kagglehub, "model_download", model_download)
    kaggle_cache.parent.mkdir(parents=True)
    assert resolve_model(KAGGLE) == str(kaggle_cache)
    name = KAGGLE.removeprefix("kaggle://")
    assert asked == [(name, False), (name, True)]


def test_what_kaggle_refuses_is_told(kaggle_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kagglehub
    from kagglehub.exceptions import KaggleApiHTTPError

    def model_download(name: str, force_download: bool) -> str:
        raise KaggleApiHTTPError("403 Client Error.\n\nYou don't have permission ...")

    monkeypatch.setattr(kagglehub, "model_download", model_download)
    assert refused(KAGGLE) == (
        f"model.handle: {KAGGLE} could not be fetched: 403 Client Error.; if the link is dead, "
        "set model.handle to a local copy: a SavedModel directory or a .tar.gz of one"
    )


def test_a_kaggle_model_of_another_framework_is_refused(kaggle_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kagglehub

    kaggle_cache.mkdir(parents=True)
    (kaggle_cache / "model.keras").write_bytes(b"")
    monkeypatch.setattr(kagglehub, "model_download", lambda name, force_download: str(kaggle_cache))
    assert refused(KAGGLE) == (
        f"model.handle: {KAGGLE} holds no SavedModel (no saved_model.pb); take one for tensorFlow2"
    )


@pytest.mark.parametrize(
    "handle", ["kaggle://", "kaggle://a/b/c/d", "kaggle://a/b/c/d/latest", "kaggle://a/../c/d/1", "kaggle://a//c/d/1"]
)
def test_a_kaggle_handle_of_another_form_is_refused(handle: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_model(handle)
    assert str(caught.value) == (
        f"model.handle: {handle!r} is not valid; it must be kaggle://owner/model/framework/variation/version, "
        "such as kaggle://google/mobilenet-v2/tensorFlow2/100-224-classification/2"
    )


def test_without_kagglehub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.handles import kaggle

    monkeypatch.setattr(kaggle, "find_spec", lambda name: None)
    assert refused(KAGGLE) == (
        "model.handle: kagglehub is not installed; kaggle:// needs an extra: pip install 'hublabel[kaggle]'"
    )
