"""Every command printed in the docs is run, page by page, from top to bottom, as a newcomer would.

A ```sh block is run by a shell and a ```python block by Python, in a folder that looks like the checkout, at home in a
folder with some Pictures. A block below `<!-- not run here: REASON -->` is not; `make` targets are run by .ci/run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PROGRAMS = "hublabel|make|python3?|pip|duckdb|docker|kubectl|gcloud|mvn|java"
COMMANDS = re.compile(rf"^(\$ )?(\S*/)?({PROGRAMS}) ", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


def to_run(page: Path) -> list[tuple[str, str]]:
    """(kind, text) of the blocks of a page that are run, in order; `make` lines are left to .ci/run."""
    found = []
    for block in blocks(page):
        text = "".join(line for line in block["text"].splitlines(True) if not line.startswith("make "))
        marked = (block["mark"] or "").startswith("not run here: ")
        if block["kind"] in ("sh", "python") and not marked and text.strip():
            found.append((block["kind"], text))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_run_or_marked(page: Path) -> None:
    for block in blocks(page):
        if block["kind"] not in ("sh", "python"):
            assert not COMMANDS.search(block["text"]), f"a command outside a sh block:\n{block['text']}"
        if (block["mark"] or "").startswith("not run here"):
            assert re.fullmatch(r"not run here: \S.{10,}", block["mark"]), "the mark needs a reason"


def test_make_targets_of_the_docs_are_run_by_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for page in PAGES:
        for block in blocks(page):
            for target in re.findall(r"^make (\S+)", block["text"], re.MULTILINE):
                if not (block["mark"] or "").startswith("not run here: "):
                    assert re.search(rf"^make (?:.* )?{target}$", script, re.MULTILINE), f"make {target} in {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with links to what the commands of the docs name, and a home with pictures."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("configs", "samples", "models", "tests", "pipeline", "transforms", "benchmarks", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "samples" / "photos", tmp_path / "home" / "Pictures")
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=lambda page: page.name)
def test_commands_of_the_docs_work(page: Path, checkout: Path) -> None:
    environment = {
        **os.environ,
        "HOME": str(checkout.parent / "home"),
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
    }
    for kind, text in to_run(page):
        command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
