"""How the help texts of all commands are laid out."""

from __future__ import annotations

import argparse


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs to the terminal's width, and leaves texts of several lines, such as examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def examples(*lines: str, then: str = "") -> str:
    """An epilog: example command lines, then a paragraph."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines)]) + (f"\n\n{then}" if then else "")
