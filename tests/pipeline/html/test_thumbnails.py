from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.html import thumbnails
from pipeline.html.thumbnail_process import small_picture
from pipeline.html.thumbnails import Thumbnail, read_thumbnails
from tests.http_server import ImageServer
from tests.pictures import picture_bytes
from transforms.errors import ImageError
from transforms.read import HttpSettings, ReadBytes

RED = (200, 30, 40)
SIDE = thumbnails.SIDE


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def picture_of(thumbnail: Thumbnail) -> Image.Image:
    head, _, data = thumbnail.data.partition(",")
    assert head == "data:image/webp;base64"
    return opened(base64.b64decode(data))


def read(uris: dict[int, str], **options: object) -> dict[int, Thumbnail]:
    settings = {"read": ReadBytes(), "seconds": 60.0, "max_bytes": 1 << 20, **options}
    return read_thumbnails(uris, **settings)  # type: ignore[arg-type]


def test_pictures_are_small_and_keep_their_shape() -> None:
    small = opened(small_picture(saved(Image.new("RGB", (1000, 500), RED), "PNG"), SIDE))
    assert (small.format, small.size) == ("WEBP", (256, 128))
    assert np.abs(np.asarray(small.convert("RGB"), int) - RED).max() < 12


def test_small_pictures_are_not_blown_up() -> None:
    assert opened(small_picture(saved(Image.new("RGB", (20, 10)), "PNG"), SIDE)).size == (20, 10)


def test_pictures_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert opened(small_picture(saved(Image.new("RGB", (40, 20)), "JPEG", exif=exif), SIDE)).size == (20, 40)


def test_transparent_parts_are_white_and_sixteen_bits_are_not_all_white() -> None:
    clear = opened(small_picture(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"), SIDE)).convert("RGB")
    assert np.asarray(clear).min() > 245
    ramp = Image.fromarray(np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (64, 1)))
    grey = np.asarray(opened(small_picture(saved(ramp, "PNG"), SIDE)).convert("L"), int)
    assert grey[:, 0].max() < 20
    assert grey[:, -1].min() > 235


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    data = saved(Image.new("1", (20_000, 2_000)), "PNG")
    assert len(data) < 10_000
    with pytest.raises(ImageError, match="20,000 x 2,000 pixels"):
        small_picture(data, SIDE)


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    good, broken, large = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    good.write_bytes(picture_bytes(RED))
    broken.write_bytes(picture_bytes(RED)[:60])
    large.write_bytes(bytes(2 << 20))
    found = read(
        {0: str(good), 1: str(broken), 2: f"{tmp_path}/no.png", 3: str(large), 4: "http://x/a.png", 5: f"file://{good}"}
    )
    assert picture_of(found[0]).size == (20, 16)
    assert found[5] == found[0]
    assert {row: found[row] for row in (1, 2, 3, 4)} == {
        1: Thumbnail(why="no preview of this picture"),
        2: Thumbnail(why="no such file"),
        3: Thumbnail(why="2,097,152 bytes; image.max_bytes is 1,048,576"),
        4: Thumbnail(why="not on a local disk; report.remote_thumbnails: true reads them too"),
    }


def test_remote_pictures_are_fetched_when_asked_for() -> None:
    with ImageServer().running() as server:
        server.answers["/a.png"] = picture_bytes(RED)
        uris = {0: f"{server.url}/a.png"}
        assert not read(uris)[0].data
        assert not server.requests
        local = ReadBytes(HttpSettings(allow_private_hosts=True))
        assert picture_of(read(uris, remote=True, read=local)[0]).size == (20, 16)


def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert read({0: str(tmp_path / "pipe.png")}) == {0: Thumbnail(why="not a regular file")}


PROGRAM = """
import json, os, sys, time
for row, uri in json.load(sys.stdin)["pictures"]:
    if uri == "hang":
        time.sleep(600)
    print(json.dumps({"row": row, "data": "", "why": ""}), flush=True)
    if uri == "crash":
        os.abort()
    print(json.dumps({"row": row, "data": f"data:{uri}", "why": ""}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in place of the one that decodes, which does as the URIs say."""
    (tmp_path / "doing_as_told.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(thumbnails, "PROGRAM", "doing_as_told")


@pytest.mark.usefixtures("program")
def test_a_picture_that_crashes_the_decoder_costs_no_other() -> None:
    found = read({0: "a", 1: "crash", 2: "b", 3: "crash", 4: "c"})
    crashed = Thumbnail(why="its decoder crashed")
    assert found == {0: Thumbnail("data:a"), 1: crashed, 2: Thumbnail("data:b"), 3: crashed, 4: Thumbnail("data:c")}


@pytest.mark.usefixtures("program")
def test_the_time_limit_ends_it() -> None:
    found = read({0: "a", 1: "hang", 2: "b"}, seconds=2.0)
    late = Thumbnail(why="not read within 2 s")
    assert found in ({0: Thumbnail("data:a"), 1: late, 2: late}, {0: late, 1: late, 2: late})


def test_no_process_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "PROGRAM", "no.such.module")
    assert read({0: "a"}) == {0: Thumbnail(why="no process can be started to read it")}
