import io

import pytest
from rich.console import Console

from pipeline.console import plain_console
from pipeline.progress import INTERVAL, RunProgress, readable_seconds


class Clock:
    """Seconds as the test has them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    console = plain_console()
    console.file = io.StringIO()
    return console


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_elsewhere_than_on_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    clock, console = Clock(), plain()
    with RunProgress(console, total=2000, clock=clock) as progress:
        progress.phase("labelling")
        for second in range(1, 25):
            clock.now = 1000.0 + second
            progress.update(done=50 * second, failed=second)
    assert INTERVAL == 10.0
    assert lines(console) == [
        "labelling ...",
        "500 of 2,000 images, 10 failed, 50.0 images/s, 30 s left",
        "1,000 of 2,000 images, 20 failed, 50.0 images/s, 20 s left",
    ]


def test_before_the_first_part_no_rate_is_claimed() -> None:
    clock, console = Clock(), plain()
    with RunProgress(console, total=10, done=4, clock=clock) as progress:
        clock.now += 15
        progress.update(done=4, failed=0)
    assert lines(console) == ["4 of 10 images, 0 failed"]


def test_what_was_done_before_does_not_count_for_the_rate() -> None:
    clock, console = Clock(), plain()
    with RunProgress(console, total=1000, done=900, clock=clock) as progress:
        clock.now += 10
        progress.update(done=950, failed=1)
        assert progress.rate() == pytest.approx(5.0)
    assert lines(console) == ["950 of 1,000 images, 1 failed, 5.0 images/s, 10 s left"]


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    with RunProgress(plain(), total=10_000, clock=clock) as progress:
        for second in range(1, 201):
            clock.now = 1000.0 + second
            done = second if second <= 100 else 100 + 10 * (second - 100)
            progress.update(done, 0)
        assert progress.rate() == pytest.approx(10.0)


def test_a_terminal_has_a_live_line_that_goes_away_and_lines_that_stay() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with RunProgress(console, total=40, clock=clock) as progress:
        progress.phase("labelling")
        clock.now += 2
        progress.update(done=20, failed=3)
        progress.say("the pipeline's process died; starting it again")
        assert progress._live is not None
        progress._live.refresh()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "labelling" in text
    assert "20/40" in text
    assert "3 failed, 10.0 images/s, 2 s left" in text
    assert "the pipeline's process died; starting it again\n" in text
    assert text.endswith("\x1b[2K")  # the live line is wiped


def test_markup_in_a_path_is_shown_as_it_is() -> None:
    console = plain()
    with RunProgress(console, total=1, clock=Clock()) as progress:
        progress.say("photos/[/red]/[bold]x :smile: " + "y" * 200)
    assert lines(console) == ["photos/[/red]/[bold]x :smile: " + "y" * 200]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (0.4, "0 s"), (59.6, "60 s"), (99.4, "99 s"), (99.5, "2 min"), (3000, "50 min"), (5969, "99 min"),
        (6000, "1 h 40 min"), (7200, "2 h 0 min"), (172_770, "2 d 0 h"), (172_700, "47 h 58 min"),
        (3 * 86_400 + 4 * 3600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_readable_seconds(seconds: float, said: str) -> None:
    assert readable_seconds(seconds) == said
