"""The page of `hublabel evaluate --html` in headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import cli
from tests.browser.chromium import DESKTOP, PHONE, Chromium, Screen
from tests.hostile import ATTACKS, hostile_output
from tests.labelled_output import failed, labelled, output_of
from tests.pictures import colour_of, picture_bytes

SECTIONS = ["accuracy", "thresholds", "calibration", "classes", "confusions", "mistakes"]
SCREENS = [Screen(width, dark) for width in (PHONE, DESKTOP) for dark in (False, True)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety images of nine classes; every fourth is wrong, two have failed."""
    folder = tmp_path_factory.mktemp("evaluation")
    rows, truths = [], ["uri,label_index"]
    for number in range(90):
        file = folder / f"{number:03d}.png"
        file.write_bytes(picture_bytes(colour_of(number), (200, 150)))
        guess = (number + (number % 4 == 0)) % 9
        rows.append(labelled(str(file), guess, (number + 1) / 91, (guess + 1) % 9))
        truths.append(f"{file},{number % 9}")
    rows[5], rows[7] = failed(rows[5].uri), failed(rows[7].uri)
    output_of(folder / "out", rows, [f"class {number}, also {number}" for number in range(9)], shard_size=16)
    (folder / "truth.csv").write_text("\n".join(truths) + "\n")
    assert (
        cli.main(["evaluate", f"{folder}/out", "--truth", f"{folder}/truth.csv", "--html", f"{folder}/page.html"]) == 0
    )
    return folder / "page.html"


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: f"{screen.width}{'-dark' if screen.dark else ''}")
def test_every_section_renders(page: Path, chromium: Chromium, screen: Screen) -> None:
    chromium.open(page, screen)
    assert chromium.requests() == [page.as_uri()]
    assert chromium.complaints() == []
    assert chromium.ask("return [...document.querySelectorAll('section')].map((s) => s.id)") == SECTIONS
    assert chromium.ask("return [...document.querySelectorAll('section')].every((s) => s.offsetHeight > 50)")
    marks = "return document.querySelectorAll('[data-plot={}] {}').length"
    assert chromium.ask(marks.format("reliability", ".mark-symbol path")) == 15
    assert chromium.ask(marks.format("reliability", ".mark-rule.role-mark line")) == 15
    assert chromium.ask(marks.format("coverage", ".mark-line path")) == 1
    assert chromium.ask(marks.format("coverage", ".mark-area path")) == 1
    assert chromium.ask(marks.format("classes", ".mark-rect path")) > 0
    wrong = sum(number % 4 == 0 for number in range(90))
    assert chromium.ask("return [...document.images].filter((i) => i.naturalWidth > 100).length") == wrong
    assert chromium.ask("return document.documentElement.scrollWidth") == screen.width


def test_hostile_texts_stay_texts(tmp_path: Path, chromium: Chromium) -> None:
    hostile_output(tmp_path / "out")
    truths = [{"uri": f"/nowhere/{text}", "cls": (n + 1) % len(ATTACKS)} for n, text in enumerate(ATTACKS)]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(truth) + "\n" for truth in truths))
    page = tmp_path / "page.html"
    arguments = [str(tmp_path / "out"), "--truth", f"{tmp_path}/truth.jsonl", "--html", str(page)]
    assert cli.main(["evaluate", *arguments]) == 0
    chromium.open(page, Screen(PHONE))
    assert chromium.requests() == [page.as_uri()]
    assert chromium.complaints() == []
    assert chromium.ask("return document.title").endswith(": evaluation")
    assert chromium.ask("return document.querySelectorAll('iframe, object, embed, base').length") == 0
    confused = chromium.ask(
        "return [...document.querySelectorAll('#confusions td:nth-child(2)')].map((c) => c.textContent)"
    )
    assert sorted(confused) == sorted(text if len(text) <= 300 else text[:299] + "…" for text in ATTACKS)
