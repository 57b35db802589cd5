"""Whether a run could write its output, without writing anything."""

from __future__ import annotations

import os

from pipeline.check.findings import PROBLEM, Finding
from pipeline.record import NAME
from transforms.storage import LocalStorage, explain, open_storage


def judge_output(path: str) -> tuple[list[Finding], str]:
    """What is wrong with `output.path`, as far as looking at it tells, and what is there."""
    try:
        storage = open_storage(path)
        is_there = storage.exists(NAME)
    except (OSError, ValueError) as error:
        reason = explain(error) if isinstance(error, OSError) else str(error)
        return [_problem(path, f"cannot be used: {reason}")], path
    if isinstance(storage, LocalStorage):
        folder = os.path.abspath(storage.root)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            return [_problem(path, f"{folder} is not a folder")], path
        if not os.access(folder, os.W_OK | os.X_OK):
            return [_problem(path, f"no permission to write to {folder}")], path
    return [], f"{path}, where a run lies already: the same config goes on with it" if is_there else path


def _problem(path: str, reason: str) -> Finding:
    return Finding(PROBLEM, f"output.path: {path}: {reason}")
