"""What becomes of a job when its launcher ends before it; the child, the clock and whoever types are fakes."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

import pytest

from pipeline.console import plain_console
from pipeline.errors import TooManyFailedError
from pipeline.leaving import CANCELLING, leave
from pipeline.signals import StoppedError


class FakeChild:
    """A child that ends `patience` looks after it was told to cancel."""

    def __init__(self, patience: int = 3, errors: list[str] | None = None) -> None:
        self.ordered: list[str] = []
        self._left, self._errors = patience, errors or []

    def order(self, word: str) -> None:
        self.ordered.append(word)

    def poll(self) -> int | None:
        self._left -= 1
        return 0 if self._left < 0 else None

    def events(self) -> list[dict[str, Any]]:
        phase = {"event": "phase", "name": "job cancelling"}
        return [phase, *({"event": "error", "message": message, "exit_code": 1} for message in self._errors)]


class Keyboard(io.StringIO):
    """A terminal's input."""

    def isatty(self) -> bool:
        return True


def left(
    monkeypatch: pytest.MonkeyPatch, reason: Any, child: FakeChild, typed: str | None = None
) -> tuple[list[str], str]:
    """What the child was told, and what was printed; `typed` None is no terminal."""
    console = plain_console()
    console.file = screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    console._force_terminal = typed is not None
    monkeypatch.setattr(sys, "stdin", Keyboard(typed) if typed is not None else io.StringIO())
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    leave(child, reason, console, clock=lambda: now[0], wait=wait)  # type: ignore[arg-type]
    return child.ordered, screen.getvalue()


@pytest.mark.parametrize("typed", ["c\n", "C\n", " cancel \n"])
def test_an_answer_that_cancels(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    ordered, said = left(monkeypatch, StoppedError(signal.SIGINT), FakeChild(), typed)
    assert ordered == ["cancel"]
    assert said.endswith("cancelling the job ...\nthe job is cancelled\n")


@pytest.mark.parametrize("typed", ["d\n", "\n", "what?\n", "", None])
def test_all_else_leaves_the_job_to_itself(monkeypatch: pytest.MonkeyPatch, typed: str | None) -> None:
    ordered, said = left(monkeypatch, StoppedError(signal.SIGINT), FakeChild(), typed)
    assert ordered == []
    assert said.endswith("the job goes on; the same command attaches to it\n")
    assert ("[c]ancel it?" in said) == (typed is not None)


def test_too_many_failed_images_cancel_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    ordered, said = left(monkeypatch, TooManyFailedError("too many"), FakeChild(), "d\n")
    assert ordered == ["cancel"]
    assert said == "cancelling the job ...\nthe job is cancelled\n"


def test_a_runner_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = left(monkeypatch, TooManyFailedError("too many"), FakeChild(patience=10**6))
    assert said.endswith(f"the runner has not ended it within {CANCELLING:g} seconds; look there whether it does\n")


def test_a_runner_that_will_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = left(monkeypatch, TooManyFailedError("too many"), FakeChild(errors=["Dataflow does not answer: 403"]))
    assert said.endswith("not cancelled: Dataflow does not answer: 403\n")
