"""report.html in headless Chromium: it renders, asks for nothing, and stays text whatever the data say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.query import open_output
from pipeline.report_html import make_page
from tests.browser.chromium import DESKTOP, PHONE, Chromium, Screen
from tests.hostile import ATTACKS, hostile_output
from tests.labelled_output import failed, labelled, output_of
from tests.pictures import colour_of, picture_bytes

SECTIONS = ["outcome", "examples", "labels", "scores", "failures", "rate", "files", "run"]
PLOTS = ["file_sizes", "labels", "pixels", "rate", "scores"]
SCREENS = [Screen(width, dark) for width in (PHONE, DESKTOP) for dark in (False, True)]


def written(output: Path) -> Path:
    storage, record = open_output(str(output))
    page = output / "report.html"
    page.write_text(make_page(storage, record))
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ninety images, all kinds of them."""
    folder = tmp_path_factory.mktemp("report")
    rows = []
    for number in range(90):
        file = folder / f"{number:03d}.png"
        file.write_bytes(picture_bytes(colour_of(number), (200, 150 + number)))
        rows.append(labelled(str(file), number % 3, (number + 1) / 91, (number + 1) % 3, bytes=1000 * (number + 1)))
    rows[5] = failed(rows[5].uri)
    rows[7] = failed(rows[7].uri, "truncated", "the PNG ends before its picture is complete", "decode")
    output_of(folder / "out", rows, ["espresso", "Egyptian_cat", "great_white_shark, white_shark, man-eater"])
    return written(folder / "out")


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: f"{screen.width}{'-dark' if screen.dark else ''}")
def test_every_section_renders(page: Path, chromium: Chromium, screen: Screen) -> None:
    chromium.open(page, screen)
    assert chromium.requests() == [page.as_uri()]
    assert chromium.complaints() == []
    assert chromium.ask("return [...document.querySelectorAll('section')].map((s) => s.id)") == SECTIONS
    assert chromium.ask("return [...document.querySelectorAll('section')].every((s) => s.offsetHeight > 50)")
    plots = "[...document.querySelectorAll('[data-plot]')]"
    assert sorted(chromium.ask(f"return {plots}.map((p) => p.dataset.plot)")) == PLOTS
    assert chromium.ask(f"return {plots}.every((p) => p.querySelector('svg').getBoundingClientRect().height > 60)")
    assert chromium.ask(f"return {plots}.every((p) => p.querySelectorAll('.mark-rect path').length > 0)")
    assert chromium.ask("return [...document.images].filter((i) => i.complete && i.naturalWidth > 100).length") == 38
    # Nothing sticks out: a telephone need not be moved sideways.
    assert chromium.ask("return document.documentElement.scrollWidth") == screen.width


def colours(chromium: Chromium, name: str) -> list[str]:
    return chromium.ask(
        f"const of = (e, p) => getComputedStyle(e)[p];"
        f"const plot = document.querySelector('[data-plot={name}]');"
        f"return [of(document.body, 'backgroundColor'), of(document.body, 'color'),"
        f" of(plot.querySelector('.mark-rect path'), 'fill'), of(plot.querySelector('.role-axis text'), 'fill')]"
    )


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio, 1 to 21."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_the_plots_follow_the_dark_without_being_drawn_again(page: Path, chromium: Chromium) -> None:
    chromium.open(page)
    light = colours(chromium, "labels")
    chromium.prefer(dark=True)
    dark = colours(chromium, "labels")
    assert all(one != other for one, other in zip(light, dark, strict=True))
    for background, text, bar, axis in (light, dark):
        assert contrast(background, text) >= 7
        assert contrast(background, axis) >= 4.5
        assert contrast(background, bar) >= 3


def test_on_paper_it_is_light_and_open(page: Path, chromium: Chromium) -> None:
    chromium.open(page, Screen(dark=True))
    assert chromium.ask("return document.querySelectorAll('details[open]').length") == 0
    chromium.paper(True)
    background, *_ = colours(chromium, "scores")
    assert background == "rgb(255, 255, 255)"
    chromium.paper(False)
    chromium.ask("dispatchEvent(new Event('beforeprint'))")
    assert chromium.ask("return document.querySelectorAll('#labels details[open], #run details[open]').length") == 2
    chromium.ask("dispatchEvent(new Event('afterprint'))")
    assert chromium.ask("return document.querySelectorAll('details[open]').length") == 0
    assert chromium.pdf().startswith(b"%PDF-")


def test_long_tables_are_not_printed(tmp_path: Path, chromium: Chromium) -> None:
    rows = [labelled(f"/{n}.jpg", n, 0.5) for n in range(80)]
    output_of(tmp_path, rows, [str(n) for n in range(80)], shard_size=8)
    chromium.open(written(tmp_path))
    chromium.ask("dispatchEvent(new Event('beforeprint'))")
    opened = chromium.ask("return [...document.querySelectorAll('details[open]')].map((d) => d.closest('section').id)")
    assert opened == ["scores", "run"]


def test_a_bar_tells_its_numbers(page: Path, chromium: Chromium) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    chromium.open(page)
    bar = chromium.ask("return document.querySelector('[data-plot=labels] .mark-rect path')")
    ActionChains(chromium.driver).move_to_element(bar).perform()
    chromium.wait("return document.querySelector('#vg-tooltip-element.visible')")
    assert chromium.ask("return document.getElementById('vg-tooltip-element').innerText").split() == [
        "espresso", "images", "30", "share", "34.09%",
    ]  # fmt: skip


def test_hostile_texts_stay_texts(tmp_path: Path, chromium: Chromium) -> None:
    """Labels, URIs, messages and config try to become markup; nothing runs, nothing is fetched, all of it is read."""
    hostile_output(tmp_path)
    page = written(tmp_path)
    chromium.open(page, Screen(PHONE))
    assert chromium.requests() == [page.as_uri()]
    assert chromium.complaints() == []
    assert chromium.ask("return document.title").endswith(": 30 images")
    assert chromium.ask("return document.querySelectorAll('iframe, object, embed, base').length") == 0
    assert chromium.ask("return document.documentElement.scrollWidth") == PHONE
    table = chromium.ask("return [...document.querySelectorAll('#labels td:first-child')].map((c) => c.textContent)")
    assert table == [text if len(text) <= 300 else text[:299] + "…" for text in ATTACKS]
    axis = chromium.ask(
        "return [...document.querySelectorAll('[data-plot=labels] .role-axis-label text')].map((t) => t.textContent)"
    )
    assert len(axis) == len(["0", "1"]) + len(ATTACKS)
    assert axis[2].startswith("<script>document.title=")
    chromium.driver.find_element("css selector", "[data-plot=labels] .mark-rect path").click()
    chromium.wait("return document.querySelector('#vg-tooltip-element.visible')")
    assert chromium.ask("return document.querySelectorAll('#vg-tooltip-element script').length") == 0
    assert chromium.ask("return document.title").endswith(": 30 images")


def test_the_policy_stops_what_escaping_would_miss(page: Path, chromium: Chromium, tmp_path: Path) -> None:
    """Markup put into a page as if escaping had failed: no script of it runs, and nothing is fetched."""
    leaks = (
        "<img src=https://evil.example/a.png><script>document.title = 'owned'</script>"
        "<svg onload=\"document.title = 'owned'\"></svg>"
    )
    torn = tmp_path / "torn.html"
    torn.write_text(page.read_text().replace('<section id="outcome">', leaks + '<section id="outcome">'))
    chromium.open(torn)
    assert chromium.ask("return document.title") != "owned"
    assert len(chromium.complaints()) == 3
    answered = chromium.ask(
        "return [...document.images].filter((i) => i.src.includes('evil') && i.naturalWidth > 0).length"
    )
    assert answered == 0


def test_a_screenshot_shows_more_than_one_colour(page: Path, chromium: Chromium, tmp_path: Path) -> None:
    chromium.open(page, Screen(PHONE, dark=True))
    chromium.screenshot(tmp_path / "page.png")
    picture = Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("RGB")
    assert picture.width == 2 * PHONE
    assert len(picture.resize((200, 800)).getcolors(200 * 800) or []) > 500
