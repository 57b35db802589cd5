"""Consoles that print paths and messages as they are."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from transforms.masking import mask_credentials


class _PlainConsole(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(mask_credentials(what) if isinstance(what, str) else what for what in objects), **options)


def plain_console(stderr: bool = False) -> Console:
    """A console that takes `[` and `:name:` for what they are, leaves lines whole for whoever reads our output, and
    masks credentials in texts."""
    return _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
