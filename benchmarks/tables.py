"""Tables of docs/performance.md: each stands between two markers and is replaced as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_table(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between `<!-- bench:NAME -->` and `<!-- end:NAME -->` of the page.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- end:{name} -->"
    old = page.read_text(encoding="utf-8")
    new, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.S)
    if count != 1:
        raise ValueError(f"{page}: no markers {begin} ... {end}, or several")
    page.write_text(new, encoding="utf-8")
