"""Modules of ours run as programs, in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As `python -m MODULE`, but that would look for modules in the working directory first: a user's `transforms.py` or
# `numpy.py` would be taken for ours, or for the library. (Python's own option for that, -P, came with 3.11.)
_RUN = (
    "import sys; getattr(sys.flags, 'safe_path', False) or sys.path.pop(0); sys.path.append({packages!r}); "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def program(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` by this Python; it finds our modules, and none in the working directory."""
    packages = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-c", _RUN.format(packages=packages), module, *arguments]


def same_modules(**settings: str) -> dict[str, str]:
    """The environment in which a program finds all modules that this process finds, with `settings` besides."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), **settings}
