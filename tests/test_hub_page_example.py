"""docs/hub_page_example.md: its code is run, with a module of the published shape and a photo served on loopback."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.models.convmixer import Architecture
from tests.hub_server import Answer, HubServer
from tests.pipeline.models.published_module import random_arrays, save_published_module
from tests.pipeline.running import in_process, read_rows
from tests.test_docs import blocks

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "hub_page_example.md"
HANDLE = "/rishit-dagli/convmixer-1024-20/1"
SMALL = Architecture(dim=32, depth=2, kernel_size=9, patch_size=14)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("published") / "module"
    save_published_module(folder, random_arrays(SMALL, seed=3), SMALL)
    with HubServer().running() as server:
        server.module(HANDLE, folder)
        photo = (ROOT / "samples" / "photos" / "rocket.jpg").read_bytes()
        server.files["/rishit-dagli.appspot.com/sample-images/A5m4ZG1.jpg"] = Answer(photo)
        yield server


@pytest.fixture
def here(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configs, their links leading to the server, and a cache of its own."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "labels").symlink_to(ROOT / "configs" / "labels")
    for config in ROOT.glob("configs/convmixer_*.yaml"):
        (tmp_path / "configs" / config.name).write_text(local(config.read_text(), hub))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def local(text: str, hub: HubServer) -> str:
    return text.replace("https://tfhub.dev", hub.url).replace("https://storage.googleapis.com", hub.url)


def test_the_page_in_python_and_with_hublabel_agree(
    hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_process(monkeypatch)
    (python,) = [block["text"] for block in blocks(PAGE) if block["kind"] == "python"]
    shell = [line for block in blocks(PAGE) if block["kind"] == "sh" for line in block["text"].splitlines()]
    assert len(shell) == 4

    printed = io.StringIO()
    values: dict[str, object] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(local(python, hub), str(PAGE), "exec"), values)
    label = printed.getvalue().strip()

    echo, *commands = shell
    word, url, arrow, name = shlex.split(local(echo, hub))
    assert (word, arrow) == ("echo", ">")
    Path(name).write_text(f"{url}\n")
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "hublabel"
        if arguments[0] == "run":
            arguments.append("--set=input.allow_private_hosts=true")  # the photo's server is on loopback
        assert cli.main(arguments) == 0, capsys.readouterr().err

    (row,) = read_rows(here / "out" / "page")
    assert (row["status"], row["uri"], row["label"]) == ("ok", url, label)
    assert row["score"] == pytest.approx(float(softmax(values["logits"])), rel=0.02)
    (right,) = read_rows(here / "out" / "right")
    assert right["status"] == "ok"
    assert right["score"] != pytest.approx(row["score"], rel=1e-3)
    modules = [path for path, _ in hub.asked if HANDLE in path]
    assert modules == [f"{HANDLE}?tf-hub-format=compressed"], "fetched once, into the cache of both"


def softmax(logits: object) -> float:
    """The largest probability."""
    import tensorflow as tf

    return tf.reduce_max(tf.nn.softmax(logits)).numpy()
