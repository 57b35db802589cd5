import os
import signal
import subprocess
import sys

import pytest

from pipeline.signals import Signals, StoppedError, stop_signals

TWO_SIGNALS = """
import os, signal
from pipeline.signals import stop_signals
with stop_signals() as signals:
    signals.at_once = lambda: print("ended the child", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("went on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("not reached", flush=True)
"""


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_waits_until_it_is_asked_for(number: int, code: int, name: str) -> None:
    with stop_signals() as signals:
        signals.check()
        os.kill(os.getpid(), number)
        assert signals.received == number
        with pytest.raises(StoppedError, match=f"stopped by {name}") as caught:
            signals.check()
    assert caught.value.exit_code == code


def test_the_handlers_of_before_come_back() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with pytest.raises(ZeroDivisionError), stop_signals():
            _ = 1 / 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_ends_the_child_and_the_process_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\nended the child\n"
    assert done.returncode == 143


def test_without_a_signal_nothing_happens() -> None:
    signals = Signals()
    signals.check()
    signals.at_once()
    assert signals.received is None
