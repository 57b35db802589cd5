"""`--quiet` and `--json`: what is said of a run to nobody, and to machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.pipeline.running import Hublabel, Said


def events(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.out.splitlines()]


def test_a_run_and_its_retry_in_events(hublabel: Hublabel, picture_folder: Path) -> None:
    (picture_folder / "005.png").write_bytes(b"")
    said = hublabel.run("--json")
    assert (said.code, said.err) == (0, "")
    found = [event for event in events(said) if event["event"] != "progress"]
    end = found.pop()
    assert found == [
        {"event": "start", "config": str(hublabel.config)},
        {"event": "plan", "images": 10, "shards": 3, "left_out": {}},
        {"event": "phase", "name": "loading the model"},
        {"event": "phase", "name": "labelling"},
    ]
    seconds = end.pop("seconds")
    assert set(seconds) == {"starting", "loading the model", "labelling"}
    assert end.pop("report").startswith(f"{hublabel.output}/report.")
    expected = {
        "event": "end", "exit_code": 0, "images": 10, "labelled": 9, "failed": 1, "labelled_or_failed_now": 10,
        "predictions": f"{hublabel.output}/predictions",
    }  # fmt: skip
    assert end == expected
    (hublabel.output / "_SUCCESS").unlink()
    hublabel.parts()[0].unlink()
    again = events(hublabel.run("--json"))
    assert {"event": "resume", "images": 10, "done": 6, "failed": 1} in again
    assert again[-1]["labelled_or_failed_now"] == 4


def test_an_error_is_an_event_too(hublabel: Hublabel) -> None:
    said = hublabel.run("--json", "--set", "batch.size=0")
    assert said.code == 2
    error = events(said)[-1]
    assert error["event"] == "error"
    assert error["exit_code"] == 2
    assert said.err == f"hublabel: {error['message']}\n"
    assert "batch.size: 0 is not valid" in error["message"]


def test_quiet_says_nothing(hublabel: Hublabel) -> None:
    said = hublabel.run("--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert len(hublabel.rows()) == 10


def test_quiet_says_errors(hublabel: Hublabel) -> None:
    said = hublabel.run("--quiet", "--set", "batch.size=0")
    assert (said.code, said.out) == (2, "")
    assert "batch.size: 0 is not valid" in said.err
