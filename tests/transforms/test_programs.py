"""Our modules as programs, wherever they are started; real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from transforms.programs import program, same_modules

OTHERS = ("json", "numpy", "pipeline", "runpy", "transforms")  # a user's files of these names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in OTHERS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working directory was run')\n")
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"PYTHONSAFEPATH": "1"}])
def test_nothing_is_imported_from_the_working_directory(folder: Path, settings: dict[str, str]) -> None:
    (folder / "there").mkdir()
    (folder / "there" / "told.py").write_text(
        "import json, sys, numpy, pipeline.record, transforms.records\nif __name__ == '__main__': print(sys.argv[1:])\n"
    )
    environment = {**same_modules(**settings), "PYTHONPATH": str(folder / "there")}
    done = subprocess.run(
        program("told", "a b", "-m"), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a b', '-m']\n", "")


def test_a_program_finds_the_modules_that_this_process_finds(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "found_there.py").write_text("import os\nprint(os.environ['SETTING'])\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    environment = same_modules(SETTING="set")
    done = subprocess.run(
        program("found_there"), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "set\n", "")
