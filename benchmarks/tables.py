"""Tables of docs/performance.md: each stands between two markers and is replaced as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratio(pairs: Sequence[tuple[float, float]]) -> str:
    """The median over the rounds of first / second, and how far the rounds lie apart."""
    ratios = [first / second for first, second in pairs]
    text = f"**{median(ratios):.2f}**"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f} to {max(ratios):.2f})"


def replace_table(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between `<!-- bench:NAME -->` and `<!-- end:NAME -->` of the page, on lines of its own.

    Raises:
        ValueError: the page has no such markers.
    """
    _replace(name, f"\n{text}\n", page)


def replace_value(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between the markers of `name` on their line, as in a cell of a table. Raises as `replace_table`."""
    _replace(name, text, page)


def _replace(name: str, text: str, page: Path) -> None:
    begin, end = f"<!-- bench:{name} -->", f"<!-- end:{name} -->"
    old = page.read_text(encoding="utf-8")
    new, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}{text}{end}", old, flags=re.S)
    if count != 1:
        raise ValueError(f"{page}: no markers {begin} ... {end}, or several")
    page.write_text(new, encoding="utf-8")
