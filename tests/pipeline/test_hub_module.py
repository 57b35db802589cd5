"""The module as published, served as TensorFlow Hub serves it, labelled with by its URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.models.convmixer import architecture, export_convmixer
from pipeline.models.torch_checkpoint import read_checkpoint
from tests.hub_server import HubServer
from tests.pipeline.models.published_module import save_published_module
from tests.pipeline.running import ChildInProcess, Hublabel, read_rows

DATA = Path(__file__).parents[1] / "data" / "convmixer"
PHOTOS = Path(__file__).parents[2] / "samples" / "photos"
CHECKPOINT = DATA / "gelu_k5_p7.pth"
SPEC = json.loads((DATA / "spec.json").read_text())["gelu_k5_p7"]
ARCH = architecture(**{name: SPEC[name] for name in ("dim", "depth", "kernel_size", "patch_size", "classes")})
SIZE = SPEC["image_size"]
HANDLE = "/rishit-dagli/convmixer-1024-20/1"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "module"
    return save_published_module(folder, read_checkpoint(CHECKPOINT), ARCH, SIZE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as `hublabel export convmixer` writes them."""
    folder = tmp_path_factory.mktemp("exported") / "module"
    export_convmixer(CHECKPOINT, folder, ARCH, SIZE)
    return folder


@pytest.fixture(scope="module", autouse=True)
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rewritten graphs are compared once for all of the tests, and not remembered behind them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HubServer().running() as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photos, and pieces of them: 40 pictures, few of them square and none symmetrical."""
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted(PHOTOS.iterdir()):
        if path.stem.endswith("truncated"):
            continue
        with Image.open(path) as image:
            picture = image.convert("RGB")
        for number, box in enumerate([(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 0.7), (0.3, 0.2, 0.9, 0.6),
                                      (0.5, 0.5, 1.0, 1.0), (0.1, 0.4, 0.8, 0.9)]):  # fmt: skip
            pixels = [round(part * length) for part, length in zip(box, picture.size * 2, strict=True)]
            picture.crop(tuple(pixels)).save(folder / f"{path.stem}-{number}.png")
    return folder


@pytest.fixture
def label(tmp_path: Path, photos: Path, children: type[ChildInProcess], capsys: pytest.CaptureFixture[str]) -> Any:
    """Labels the photos with a model; the rows."""

    def labelled(name: str, handle: str, transpose: bool, *arguments: str) -> list[dict[str, Any]]:
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"""
input: {{path: {photos}}}
model: {{handle: "{handle}", outputs: {{logits: output}}}}
image:
  size: [{SIZE}, {SIZE}]
  geometry: resize_crop
  fraction: 0.96
  resample: bicubic
  antialias: true
  transpose: {str(transpose).lower()}
output: {{path: {tmp_path}/{name}, logits: true}}
"""
        )
        said = Hublabel(config, tmp_path / name, capsys).run(*arguments)
        assert said.code == 0, said.err
        return read_rows(tmp_path / name)

    return labelled


def logits_of(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["logits"] for row in rows])


def labels_of(rows: list[dict[str, Any]]) -> list[int]:
    assert all(row["status"] == "ok" for row in rows)
    return [row["label_index"] for row in rows]


def test_labels_are_those_of_the_clean_export_only_when_transposed(
    hub: HubServer, published: Path, exported: Path, label: Any
) -> None:
    handle = hub.module(HANDLE, published)
    clean = label("clean", str(exported), False)
    transposed = label("transposed", handle, True)
    upright = label("upright", handle, False)
    assert len(clean) == 40
    assert labels_of(transposed) == labels_of(clean)
    np.testing.assert_allclose(logits_of(transposed), logits_of(clean), rtol=1e-4, atol=1e-4)
    assert labels_of(upright) != labels_of(clean)
    assert np.abs(logits_of(upright) - logits_of(clean)).max() > 0.1
    assert [path for path, _ in hub.asked] == [f"{HANDLE}?tf-hub-format=compressed"]


def test_a_run_goes_on_when_the_link_is_dead(hub: HubServer, published: Path, label: Any, tmp_path: Path) -> None:
    handle = hub.module(HANDLE, published)
    first = label("out", handle, True, "--limit", "3")
    hub.files.clear()
    next((tmp_path / "out").glob("predictions/*/part-*.parquet")).unlink()
    assert label("out", handle, True, "--limit", "3") == first


def test_a_dead_link_is_one_message(
    hub: HubServer, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import cli

    config = Path(__file__).parents[2] / "configs" / "convmixer_1024_20.yaml"
    arguments = [f"input.path={photos}", f"model.handle={hub.url}{HANDLE}", f"output.path={tmp_path}/out"]
    assert cli.main(["run", str(config), *(f"--set={argument}" for argument in arguments)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"hublabel: model.handle: {hub.url}{HANDLE} could not be fetched: the server answers 404")
    assert "hublabel export convmixer --variant 1024-20 --checkpoint FILE --output DIR" in said
    assert not (tmp_path / "out" / "run.yaml").exists()


def test_another_digest_is_refused_before_anything_runs(
    hub: HubServer, published: Path, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import cli

    config = Path(__file__).parents[2] / "configs" / "convmixer_1024_20.yaml"
    arguments = [
        f"input.path={photos}", f"model.handle={hub.module(HANDLE, published)}", f"output.path={tmp_path}/out",
        f"model.sha256={'f' * 64}",
    ]  # fmt: skip
    assert cli.main(["run", str(config), *(f"--set={argument}" for argument in arguments)]) == 2
    assert "hublabel: model.sha256: " in capsys.readouterr().err
