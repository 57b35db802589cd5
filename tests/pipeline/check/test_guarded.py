"""`hublabel check` goes on when a picture kills the process that checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.check import guarded
from pipeline.check.guarded import DEATHS
from pipeline.errors import HublabelError
from tests.crashing import SEGFAULT
from tests.pictures import picture_bytes


def command_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that checks has decoders that die of marked images."""
    monkeypatch.setattr(guarded, "PROGRAM", "tests.crashing_check")


@pytest.mark.slow
def test_a_picture_that_kills_the_process_is_a_failed_image(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command_in(monkeypatch)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(picture_bytes((40 * number, 100, 30)))
    (folder / "2.png").write_bytes(picture_bytes((1, 2, 3)) + SEGFAULT)
    (folder / "6.png").write_bytes(b"")
    arguments = ["check", str(config), "--json", "--set", f"input.path={folder}"]
    code = guarded.guarded(pytest.fail, arguments)
    said = capfd.readouterr()
    assert said.out, said.err
    found = json.loads(said.out)
    assert code == 0, said.err  # so few may fail
    assert found["sample"] == {"images": 7, "labelled": 5, "failed": 2}
    assert {one["type"]: one["examples"] for one in found["failures"]} == {
        "crashed": [f"{folder}/2.png"], "empty": [f"{folder}/6.png"],
    }  # fmt: skip
    assert "the process that checks died (SIGSEGV); trying its images one at a time" in said.err


@pytest.mark.slow
def test_with_a_truth_as_well(
    config: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command_in(monkeypatch)
    folder = shutil.copytree(truth.parent, tmp_path / "labelled")
    with sorted(folder.glob("**/*.png"))[0].open("ab") as deadly:
        deadly.write(SEGFAULT)
    arguments = ["check", str(config), "--json", "--truth", str(folder / truth.name)]
    code = guarded.guarded(pytest.fail, arguments)
    said = capfd.readouterr()
    assert code in (0, 1), said.err
    assert said.out, said.err
    assert [one["type"] for one in json.loads(said.out)["failures"]] == ["crashed"]


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL); was there too little memory?"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "died again (SIGABRT), and none of its images alone kills it"),
        (f"os.kill(os.getpid(), signal.SIGABRT) if os.environ['{DEATHS}'] == '0' else sys.exit(1)", 1),
    ],
)
def test_how_the_process_ends_is_how_the_command_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, ends: int | str
) -> None:
    (tmp_path / "ending_program.py").write_text(f"import os, signal, sys\n{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(guarded, "PROGRAM", "ending_program")
    if isinstance(ends, int):
        assert guarded.guarded(pytest.fail, []) == ends
    else:
        with pytest.raises(HublabelError) as caught:
            guarded.guarded(pytest.fail, [])
        assert str(caught.value) == f"the process that checks {ends}"
