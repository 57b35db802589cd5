"""Consoles that print paths and messages as they are."""

from __future__ import annotations

from rich.console import Console


def plain_console(stderr: bool = False) -> Console:
    """A console that takes `[` and `:name:` for what they are, and leaves lines whole for whoever reads our output."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
