"""Small pictures for a page: bounded in number and size, read again within a time limit.

They are read and decoded in a process of their own: what crashes a decoder, or hangs on a dead network mount, costs
the pictures and not the page.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transforms.programs import program, same_modules
from transforms.read import ReadBytes, uri_scheme

PROGRAM = "pipeline.html.thumbnail_process"
LOCAL = ("", "file")
SIDE = 256  # pixels of the longer side: sharp at half that size on a telephone


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, or why there is none.

    Attributes:
        data: the picture as a `data:` URI (WebP); empty when there is none.
        why: empty, or in words why not.
    """

    data: str = ""
    why: str = ""


def read_thumbnails(
    uris: Mapping[int, str], read: ReadBytes, *, seconds: float, max_bytes: int, remote: bool = False
) -> dict[int, Thumbnail]:
    """Thumbnails of pictures, by row.

    Args:
        uris: URI by row.
        read: how URIs are read.
        seconds: for all of them together.
        max_bytes: larger files are not read.
        remote: whether to read what is not on a local disk as well.
    """
    found = dict.fromkeys(uris, Thumbnail(why="not on a local disk; report.remote_thumbnails: true reads them too"))
    pending = {row: uri for row, uri in uris.items() if remote or uri_scheme(uri) in LOCAL}
    settings = {"http": asdict(read.http), "options": read.options, "max_bytes": max_bytes, "side": SIDE}
    deadline = time.monotonic() + seconds
    while pending:
        answers, died = _ask({**settings, "pictures": list(pending.items())}, deadline - time.monotonic())
        for answer in answers:
            found[answer["row"]] = Thumbnail(answer["data"], answer["why"])
        in_hand = {answer["row"] for answer in answers if not answer["data"] and not answer["why"]}
        for row in in_hand:
            found[row] = Thumbnail(why="its decoder crashed" if died else f"not read within {seconds:g} s")
        pending = {row: uri for row, uri in pending.items() if row not in {answer["row"] for answer in answers}}
        if not died or not in_hand:
            why = "no process can be started to read it" if died else f"not read within {seconds:g} s"
            found.update(dict.fromkeys(pending, Thumbnail(why=why)))
            break
    return found


def _ask(job: dict[str, Any], seconds: float) -> tuple[list[dict[str, Any]], bool]:
    """What the process said within that time, and whether it died.

    It says of each picture that it begins with it (neither `data` nor `why`), and then what came of it.
    """
    try:
        done = subprocess.run(
            program(PROGRAM),
            input=json.dumps(job).encode(), capture_output=True, timeout=max(seconds, 0.01), env=same_modules(),
        )  # fmt: skip
        output, died = done.stdout, done.returncode != 0
    except subprocess.TimeoutExpired as late:
        output, died = late.stdout or b"", False
    said: dict[int, dict[str, Any]] = {}
    for line in output[: output.rfind(b"\n") + 1].splitlines():
        answer = json.loads(line)
        said[answer["row"]] = answer
    return list(said.values()), died
