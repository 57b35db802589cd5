"""The command `hublabel run` inside the tests' own process, where TensorFlow starts once for all of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import child, children, cli, planning_child, remote_child
from tests.pictures import COLOURS, colour_of


class ChildInProcess:
    """Stands in for `process.Child`: runs the same program to its end, as a call, when it is first asked for.

    Attributes:
        started: how many have been given a job.
    """

    started = 0

    def __init__(self, module: str, arguments: Sequence[str], log: str, inherit: Sequence[int] = ()) -> None:
        modules = (child, remote_child, planning_child)
        self._main = {module.__name__: module.main for module in modules}[module]
        assert inherit, "the child must inherit the lock"
        Path(log).touch()
        self.log, self._arguments = log, list(arguments)
        self._job: str | None = None
        self._events: list[dict[str, Any]] = []
        self._code: int | None = None

    def give(self, job: str) -> None:
        self._job = job
        type(self).started += 1

    def poll(self) -> int:
        if self._code is None:
            assert self._job is not None
            with tempfile.TemporaryFile("r") as events, _standard_input(self._job):
                self._code = self._main([*self._arguments, str(os.dup(events.fileno()))])
                events.seek(0)
                self._events = [json.loads(line) for line in events]
        return self._code

    def events(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Nothing is left to end."""

    kill = stop

    def log_tail(self, lines: int = 20) -> str:
        return f"(the last {lines} lines)"


@contextlib.contextmanager
def _standard_input(line: str) -> Iterator[None]:
    real, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(f"{line}\n".encode()))
    try:
        yield
    finally:
        sys.stdin = real


@dataclass
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


class Hublabel:
    """Calls the command line and looks at what it leaves.

    Args:
        config: the config file.
        output: the output it names.
    """

    def __init__(self, config: Path, output: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config, self.output, self._capture = config, output, capture

    def run(self, *arguments: str) -> Said:
        """`hublabel run CONFIG ARGUMENTS...`, in this process."""
        self._capture.readouterr()
        code = cli.main(["run", str(self.config), *arguments])
        captured = self._capture.readouterr()
        return Said(code, captured.out, captured.err)

    def labelled(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows of a run that must succeed."""
        said = self.run(*arguments)
        assert said.code == 0, said.err
        return self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of `row`."""
        return read_rows(self.output)

    def parts(self) -> list[Path]:
        return parts_of(self.output)

    def report(self) -> dict[str, Any]:
        return json.loads((self.output / "report.json").read_text())


def in_process(monkeypatch: pytest.MonkeyPatch) -> type[ChildInProcess]:
    """Let runs have their child in this process; the class returned counts them."""

    class Counted(ChildInProcess):
        started = 0

    monkeypatch.setattr(children, "Child", Counted)
    monkeypatch.setattr(child, "_end_with_parent", lambda: None)
    monkeypatch.setattr(remote_child, "_end_with_parent", lambda job: None)
    return Counted


def parts_of(output: Path) -> list[Path]:
    return sorted(output.glob("predictions/*/part-*.parquet"))


def read_rows(output: Path) -> list[dict[str, Any]]:
    rows = [row for part in parts_of(output) for row in pq.ParquetFile(part).read().to_pylist()]
    return sorted(rows, key=lambda row: row["row"])


def fingerprints(output: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of each part."""
    return {part.name: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts_of(output)}


def scores_of(colour: Sequence[int]) -> list[float]:
    """Softmax of what the colour model says of a picture of one colour."""
    powers = [math.exp(0.1 * (channel - max(colour))) for channel in colour]
    return [power / sum(powers) for power in powers]


def expected_row(row: int, path: Path, number: int, labels: Sequence[str | None] = COLOURS) -> dict[str, Any]:
    """The row of picture `number` of `pictures.colour_of`, 20 x 16 pixels, labelled by the colour model."""
    data = path.read_bytes()
    scores = scores_of(colour_of(number))
    classes = sorted(range(3), key=lambda index: -scores[index])
    top = [
        {"label_index": index, "label": labels[index], "score": pytest.approx(scores[index], rel=1e-5)}
        for index in classes
    ]
    return {
        "row": row, "uri": str(path), "status": "ok", **top[0], "top_k": top, "width": 20, "height": 16,
        "format": "png", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "error_stage": None, "error_type": None, "error_message": None,
    }  # fmt: skip
