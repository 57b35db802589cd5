"""What becomes of a job when its launcher ends before it; the child, the clock and whoever types are fakes."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.console import plain_console
from pipeline.errors import TooManyFailedError
from pipeline.job_record import JobRecord, save_job
from pipeline.leaving import CANCELLING, leave
from pipeline.signals import StoppedError
from transforms.storage import LocalStorage

JOB = JobRecord("FlinkRunner", "host:8081", "hublabel-1", "id-1", state=None)
NAMED = "job id-1 (FlinkRunner at host:8081)"


class FakeChild:
    """A child that ends `patience` looks after it was told to cancel, its job then being in the state `ends`."""

    def __init__(self, patience: int = 3, ends: str = "CANCELLED", errors: tuple[str, ...] = ()) -> None:
        self.ordered: list[str] = []
        self.storage: LocalStorage | None = None
        self._left, self._ends, self._errors = patience, ends, errors

    def order(self, word: str) -> None:
        self.ordered.append(word)

    def poll(self) -> int | None:
        self._left -= 1
        if self._left >= 0:
            return None
        assert self.storage is not None
        save_job(self.storage, JOB, state=self._ends)
        return 0

    def events(self) -> list[dict[str, Any]]:
        phase = {"event": "phase", "name": "job cancelling"}
        return [phase, *({"event": "error", "message": message, "exit_code": 1} for message in self._errors)]


class Keyboard(io.StringIO):
    """A terminal's input."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """The output of a run with a job."""
    storage = LocalStorage(str(tmp_path))
    save_job(storage, JOB)
    return storage


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, storage: LocalStorage) -> Callable[..., tuple[list[str], str]]:
    """Leaves a child for a reason; tells what the child was told, and what was printed. `typed` None: no terminal."""

    def leave_it(reason: Any, child: FakeChild, typed: str | None = None) -> tuple[list[str], str]:
        console = plain_console()
        console.file = screen = io.StringIO()
        console._force_terminal = typed is not None
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdin", Keyboard(typed) if typed is not None else io.StringIO())
        now = [0.0]

        def wait(seconds: float) -> None:
            now[0] += seconds

        child.storage = storage
        leave(child, storage, reason, console, clock=lambda: now[0], wait=wait)  # type: ignore[arg-type]
        return child.ordered, screen.getvalue()

    return leave_it


Left = Callable[..., tuple[list[str], str]]


@pytest.mark.parametrize("typed", ["c\n", "C\n", " cancel \n"])
def test_an_answer_that_cancels(left: Left, typed: str) -> None:
    ordered, said = left(StoppedError(signal.SIGINT), FakeChild(), typed)
    assert ordered == ["cancel"]
    assert said.endswith(f"cancelling {NAMED} ...\nthe job is cancelled\n")


@pytest.mark.parametrize("typed", ["d\n", "\n", "what?\n", "", None])
def test_all_else_leaves_the_job_to_itself(left: Left, typed: str | None) -> None:
    ordered, said = left(StoppedError(signal.SIGINT), FakeChild(), typed)
    assert ordered == []
    assert said.endswith(f"{NAMED} goes on; the same command attaches to it\n")
    assert (f"{NAMED} goes on without this launcher. [d]etach from it, or [c]ancel it?" in said) == (typed is not None)


@pytest.mark.parametrize("state", [None, "DONE"])
def test_where_there_is_no_job_nobody_is_asked(left: Left, storage: LocalStorage, state: str | None) -> None:
    if state is None:
        storage.delete("job.json")
    else:
        save_job(storage, JOB, state=state)
    assert left(StoppedError(signal.SIGINT), FakeChild(), "c\n") == ([], "")


def test_too_many_failed_images_cancel_without_asking(left: Left) -> None:
    ordered, said = left(TooManyFailedError("too many"), FakeChild(), "d\n")
    assert ordered == ["cancel"]
    assert said == f"cancelling {NAMED} ...\nthe job is cancelled\n"


@pytest.mark.parametrize("typed", ["d\n", None])
def test_a_job_that_ends_with_its_launcher_is_cancelled_without_asking(
    left: Left, storage: LocalStorage, typed: str | None
) -> None:
    save_job(storage, JOB, ends_with_launcher=True)
    ordered, said = left(StoppedError(signal.SIGTERM), FakeChild(), typed)
    assert ordered == ["cancel"]
    assert said == f"cancelling {NAMED} ...\nthe job is cancelled\n"


def test_a_job_that_was_done_before_it_could_be_cancelled(left: Left) -> None:
    assert left(TooManyFailedError("too many"), FakeChild(ends="DONE"))[1].endswith("...\nthe job is done\n")


def test_a_runner_that_takes_its_time(left: Left) -> None:
    _, said = left(TooManyFailedError("too many"), FakeChild(patience=10**6))
    assert said.endswith(f"the runner has not ended it within {CANCELLING:g} seconds; look there whether it does\n")


def test_a_runner_that_will_not(left: Left) -> None:
    _, said = left(TooManyFailedError("too many"), FakeChild(errors=("Dataflow does not answer: 403",)))
    assert said.endswith("not cancelled: Dataflow does not answer: 403\n")
