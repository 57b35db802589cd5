from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from pipeline.html import page
from pipeline.html.page import FOLDER, duration, number, percent, shown, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9, "9"), (12345, "12,345"), (1234.5, "1,234"), (0.25, "0.25"), (8.0719, "8.07"), (99.96, "100")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 9, "0 %"), (9, 9, "100 %"), (1, 9, "11.1 %"), (1, 10_000_000, "0.1 %"),
        (9_999_999, 10_000_000, "99.9 %"), (0, 0, "–"),
    ],
)  # fmt: skip
def test_no_share_is_rounded_to_nothing_or_all(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (999.7, "1 kB"), (1500, "1.5 kB"), (13.1e12, "13.1 TB"), (2e18, "2e+03 PB")],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"), (42.3, "42 s"), (179, "3 min"), (3599, "1 h 0 min"), (18_720, "5 h 12 min"),
        (183_600, "2 d 3 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_texts_are_masked_and_then_cut() -> None:
    assert shown("https://me:secret@host/a.jpg?sig=abc") == "https://***@host/a.jpg?sig=***"
    uri = "https://host/" + "a" * 280 + "?token=hunter2hunter2"
    assert shown(uri) == "https://host/" + "a" * 280 + "?token…"
    assert shown(7) == "7"


def test_plot_data_cannot_end_its_script() -> None:
    spec = {"data": {"values": [{"name": "</script><script>alert(1)</script><!--\u2028"}]}}
    text = page._environment().from_string('<script id="plots">{{ plots | tojson }}</script>').render(plots=spec)
    inside = re.fullmatch(r'<script id="plots">(.*)</script>', text)
    assert inside is not None
    assert not set("<>&") & set(inside[1])
    assert json.loads(inside[1]) == spec


def test_scripts_are_the_published_ones_and_can_stand_in_a_page() -> None:
    rows = re.findall(r"^\| (\S+\.js) \|.*`([0-9a-f]{64})` \|$", (FOLDER / "vega/README.md").read_text(), re.MULTILINE)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / "vega").glob("*.js")}
    assert dict(rows) == found
    assert len(found) == 3
    text = page.vega()
    assert "Redistribution and use" in text
    for harmful in ("</script", "<!--", "sourceMappingURL"):
        assert harmful not in text


def test_the_packages_data_has_what_pages_need() -> None:
    setup = Path(FOLDER).parents[1] / "setup.py"
    assert '"pipeline.html": ["templates/*", "vega/*"]' in setup.read_text()
    assert all(path.is_file() for folder in ("templates", "vega") for path in (FOLDER / folder).iterdir())
