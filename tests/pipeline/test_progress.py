import io
import json

import pytest

from pipeline.console import Voice, voice
from pipeline.progress import PlanProgress, RunProgress, readable_seconds


class Clock:
    """Seconds as the test has them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def plain(form: str | None = None) -> Voice:
    console = voice(form)
    console.file = io.StringIO()
    return console


def terminal() -> Voice:
    return Voice(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def lines(console: Voice) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_elsewhere_than_on_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    clock, console = Clock(), plain()
    with RunProgress(console, total=2000, clock=clock) as progress:
        progress.phase("labelling")
        for second in range(1, 25):
            clock.now = 1000.0 + second
            progress.update(done=50 * second, failed=second)
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
    console = terminal()
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


def test_a_terminal_shows_the_last_failures() -> None:
    console = terminal()
    with RunProgress(console, total=40, clock=Clock()) as progress:
        progress.failures([(f"photos/{n}.jpg", "the file is empty") for n in range(2)])
        progress.failures(
            [("https://me:hunter2@host/[x].jpg", "404 " + "y" * 200), ("photos/3.jpg", "it is no picture")]
        )
        assert progress._live is not None
        progress._live.refresh()
    assert isinstance(console.file, io.StringIO)
    last = [line.rstrip() for line in console.file.getvalue().splitlines() if "failed: " in line][-3:]
    assert last[0] == "failed: photos/1.jpg: the file is empty"
    assert last[1].startswith("failed: https://***@host/[x].jpg: 404 yyy")
    assert last[1].endswith("y…")
    assert len(last[1]) <= 100
    assert last[2].startswith("failed: photos/3.jpg: it is no picture")


def test_machines_get_events() -> None:
    clock, console = Clock(), plain("json")
    with RunProgress(console, total=100, clock=clock) as progress:
        progress.phase("labelling")
        clock.now += 0.5
        progress.update(done=5, failed=0)  # too soon
        progress.failures([("photos/a.jpg", "the file is empty")])
        clock.now += 1.5
        progress.update(done=20, failed=1)
        progress.say("a line")
    console.warn("part 3 is damaged")
    assert [json.loads(line) for line in lines(console)] == [
        {"event": "phase", "name": "labelling"},
        {
            "event": "progress", "images": 100, "done": 20, "failed": 1, "images_per_second": 10.0, "seconds_left": 8,
            "last_failures": [{"uri": "photos/a.jpg", "reason": "the file is empty"}],
        },
        {"event": "message", "text": "a line"},
        {"event": "warning", "text": "part 3 is damaged"},
    ]  # fmt: skip


def test_quiet_says_warnings_only() -> None:
    clock, console = Clock(), plain("quiet")
    with PlanProgress(console, clock) as plan:
        clock.now += 60
        plan.update(1000)
    with RunProgress(console, total=100, clock=clock) as progress:
        progress.phase("labelling")
        clock.now += 60
        progress.update(done=50, failed=1)
        progress.say("a line")
    console.warn("part 3 is damaged")
    assert lines(console) == ["part 3 is damaged"]


def test_a_long_plan_says_how_far_it_is() -> None:
    clock, console, events = Clock(), plain(), plain("json")
    with PlanProgress(console, clock) as progress, PlanProgress(events, clock) as told:
        for second in range(1, 25):
            clock.now = 1000.0 + second
            progress.update(1000 * second)
        told.update(24_000)
    assert lines(console) == ["planning: 10,000 images so far", "planning: 20,000 images so far"]
    assert lines(events) == ['{"event": "planning", "images": 24000}']


def test_a_plan_on_a_terminal_is_one_live_line() -> None:
    clock, console = Clock(), terminal()
    with PlanProgress(console, clock) as progress:
        progress.update(10)
        assert progress._live is None, "a plan of a moment shows nothing"
        clock.now += 2
        progress.update(2_000_000)
    assert isinstance(console.file, io.StringIO)
    assert "planning: 2,000,000 images so far" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")


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
