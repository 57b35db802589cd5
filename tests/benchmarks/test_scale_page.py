"""What docs/scale.md says that its Python prints is what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = re.compile(r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = SHOWN.findall((ROOT / "docs" / "scale.md").read_text(encoding="utf-8"))


def test_the_page_shows_what_each_block_prints() -> None:
    assert len(BLOCKS) == (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").count("```python\n") == 6


@pytest.mark.parametrize(("program", "shown"), BLOCKS, ids=[program.splitlines()[0] for program, _ in BLOCKS])
def test_what_the_page_shows_is_printed(program: str, shown: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown
