from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli, report_html
from pipeline.html.page import shown
from pipeline.query import open_output
from tests.hostile import ATTACKS, hostile_output
from tests.labelled_output import failed, labelled, output_of
from tests.pictures import picture_bytes
from tests.pipeline.running import Hublabel

RED, GREEN = (200, 30, 40), (20, 190, 50)


class Page(HTMLParser):
    """What a page consists of.

    Attributes:
        elements: tag and attributes of each.
        text: what people read, blanks folded; the texts of scripts and styles left out.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._raw = 0
        self.feed(source)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self._texts.append(data)

    @property
    def plots(self) -> dict[str, Any]:
        found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', self.source, re.DOTALL)
        assert found is not None
        return json.loads(found[1])["plots"]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(output: Path) -> Page:
    storage, record = open_output(str(output))
    return Page(report_html.make_page(storage, record))


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    """Ten rows in three parts, two with pictures, one failed."""
    for name, colour in (("a.png", RED), ("b.png", GREEN)):
        (tmp_path / name).write_bytes(picture_bytes(colour))
    rows = [labelled(f"{tmp_path}/a.png", 0, 0.88, 1), labelled(f"{tmp_path}/b.png", 1, 0.6)]
    rows += [labelled(f"https://h/{n}.jpg", 2, 0.5) for n in range(7)]
    rows.append(failed("https://me:secret@h/9.jpg?sig=hush1234"))
    output_of(tmp_path / "out", rows)
    return tmp_path / "out"


def test_what_it_says(pictured: Path) -> None:
    page = page_of(pictured)
    assert "out Done : 10 images, 9 labelled, 1 failed." in page.text
    assert "10 images 9 labelled, 90.0 % 1 failed, 10.0 % 3 labels occur" in page.text
    assert "Not among the images: 2 hidden." in page.text
    assert "By falling score red 0.88 or green 0.22 a.png" in page.text
    assert "not_found (read) · 1 image, 10.0 % https://***@h/9.jpg?sig=*** no such file" in page.text
    assert "Too few parts (3) to tell how the rate went." in page.text
    assert "model 6.0 s read 1.5 s" in page.text
    assert "jpeg 9 90.0 % 450 kB not known 1 10.0 % 0 bytes" in page.text
    assert "handle: models/m" in page.text
    assert "signature: serving_default" in page.text
    assert "python 3.11" in page.text
    assert "ff" * 32 in page.text
    assert "secret" not in page.source
    assert "hush1234" not in page.source


def test_pictures_are_in_the_file(pictured: Path) -> None:
    page = page_of(pictured)
    images = page.all("img")
    assert [image["alt"] for image in images] == ["a.png", "b.png"]
    assert all((image["src"] or "").startswith("data:image/webp;base64,") for image in images)
    assert page.text.count("not on a local disk") == 7


def test_without_pictures_one_line_says_why(pictured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pictured / "other.html"
    assert cli.main(["report", str(pictured), "--thumbnails", "0", "--file", str(file)]) == 0
    assert capsys.readouterr().out == f"report: {file}\n"
    page = Page(file.read_text())
    assert page.all("img") == []
    assert "Without pictures: thumbnails are off (report.thumbnails: 0)." in page.text
    assert page.text.count("thumbnails are off") == 1
    assert "red 0.88 or green 0.22 a.png" in page.text
    assert not (pictured / "report.html").exists()


def test_plots(pictured: Path) -> None:
    plots = page_of(pictured).plots
    assert sorted(plots) == ["file_sizes", "labels", "pixels", "scores"]
    assert [(bar["name"], bar["value"]) for bar in plots["labels"]["data"]["values"]] == [
        ("blue", 7), ("red", 1), ("green", 1),
    ]  # fmt: skip
    assert [bin["images"] for bin in plots["scores"]["data"]["values"]] == [7, 1, 1]
    places = [element["data-plot"] for element in page_of(pictured).all("div") if "data-plot" in element]
    assert sorted(filter(None, places)) == sorted(plots)


def test_the_rate_of_many_parts(tmp_path: Path) -> None:
    output_of(tmp_path, [labelled("https://h/a.jpg", 0, 0.5) for _ in range(36)])
    page = page_of(tmp_path)
    assert [point["rate"] for point in page.plots["rate"]["data"]["values"]] == [0.8, 0.8]
    assert "Too few parts" not in page.text


def test_an_unfinished_run_is_told_to_be_one(tmp_path: Path) -> None:
    output_of(tmp_path, [labelled("https://h/a.jpg", 0, 0.5) for _ in range(10)], finished=False)
    page = page_of(tmp_path)
    assert "Not finished : 8 of 10 images have their row, 8 labelled, 0 failed." in page.text
    assert "None: every image has its label." in page.text


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    hostile_output(tmp_path)
    page = page_of(tmp_path)
    calm = tmp_path / "calm"
    output_of(calm, [labelled("a", 0, 0.5), failed("b")])
    harmless = {tag for tag, _ in page_of(calm).elements}
    assert {tag for tag, _ in page.elements} - harmless == set()
    assert len(page.all("script")) == 3
    known = {"class", "id", "href", "style", "title", "src", "alt", "content", "name", "http-equiv", "rel", "lang"}
    known |= {"data-plot", "charset", "nonce", "type"}
    assert {name for _, attributes in page.elements for name in attributes} <= known
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in
        ("examples", "labels", "scores", "failures", "rate", "files", "run")}  # fmt: skip
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    for attack in ATTACKS[:3]:
        assert html.unescape(attack) in page.text
    assert "hunter2" not in page.source
    assert page.source.count(ATTACKS[-1]) == 1  # in the config, as part of the input's path
    names = [bar["name"] for bar in page.plots["labels"]["data"]["values"]]
    assert names == [shown(attack, 200) for attack in ATTACKS]


def test_scripts_run_by_a_nonce_of_this_page_alone(pictured: Path) -> None:
    pages = [page_of(pictured), page_of(pictured)]
    nonces = []
    for page in pages:
        policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
        assert policy is not None
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'nonce-")
        assert "unsafe-eval" not in policy
        [nonce] = {script["nonce"] for script in page.all("script") if script.get("type") is None}
        assert f"'nonce-{nonce}'" in policy
        nonces.append(nonce)
    assert nonces[0] != nonces[1]


def test_no_run_and_no_image_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"hublabel: {tmp_path}: no run here (no run.yaml)\n"
    out = tmp_path / "out"
    output_of(out, [labelled("a.jpg", 0, 0.5)], finished=False)
    assert cli.main(["report", str(out)]) == 2
    assert capsys.readouterr().err == f"hublabel: {out}: no image has been labelled yet\n"


def test_a_file_that_cannot_be_written(pictured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(pictured), "--file", str(pictured / "no" / "a.html")]) == 1
    assert (
        capsys.readouterr().err
        == f"hublabel: --file: {pictured}/no/a.html cannot be written: No such file or directory\n"
    )


@pytest.mark.parametrize("command", [["report"], ["evaluate", "--truth", "folders"]])
def test_a_damaged_part_is_told(pictured: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    part = pictured / "predictions/00000/part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-50] + bytes(50))
    assert cli.main([command[0], str(pictured), *command[1:]]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"hublabel: {pictured}: cannot be read (")
    assert told.endswith("); `hublabel verify` tells which part\n")
    assert "part-00001.parquet" in told
    assert len(told.splitlines()) == 1


# At the end of a run.

WITH_PAGE = ("--set", "report.html=true")


def test_a_run_writes_it_last(hublabel: Hublabel, picture_folder: Path) -> None:
    (picture_folder / "004.png").write_bytes(b"")
    said = hublabel.run(*WITH_PAGE)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == f"report: {hublabel.output}/report.html"
    page = Page((hublabel.output / "report.html").read_text())
    assert "Done : 10 images, 9 labelled, 1 failed." in page.text
    assert len(page.all("img")) == 9
    before = (hublabel.output / "report.html").stat().st_mtime_ns
    said = hublabel.run(*WITH_PAGE)  # nothing to do
    assert said.out.splitlines()[-1] == f"report: {hublabel.output}/report.html"
    assert (hublabel.output / "report.html").stat().st_mtime_ns == before
    (hublabel.output / "report.html").unlink()
    assert hublabel.run(*WITH_PAGE).code == 0
    assert (hublabel.output / "report.html").exists()
    assert cli.main(["verify", str(hublabel.output)]) == 0


def test_a_retry_writes_it_again(hublabel: Hublabel, picture_folder: Path) -> None:
    good = (picture_folder / "004.png").read_bytes()
    (picture_folder / "004.png").write_bytes(b"")
    hublabel.run(*WITH_PAGE)
    (picture_folder / "004.png").write_bytes(good)
    assert cli.main(["retry", str(hublabel.output)]) == 0
    assert "Done : 10 images, 10 labelled, 0 failed." in Page((hublabel.output / "report.html").read_text()).text


def test_not_when_it_is_off(hublabel: Hublabel) -> None:
    said = hublabel.run()
    assert said.out.splitlines()[-1] == f"report: {hublabel.output}/report.json"
    assert not (hublabel.output / "report.html").exists()


@pytest.mark.parametrize("form", ["people", "json"])
def test_a_page_that_fails_does_not_fail_the_run(
    hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(report_html, "write_page", broken)
    said = hublabel.run(*WITH_PAGE, *(["--json"] if form == "json" else []))
    assert said.code == 0
    line = f"report.html was not written (no ink); the run is done, and `hublabel report {hublabel.output}` tries again"
    if form == "json":
        events = [json.loads(line) for line in said.out.splitlines()]
        assert {"event": "warning", "text": line} in events
        assert events[-1]["report"] == f"{hublabel.output}/report.json"
    else:
        assert line in said.err.splitlines()
        assert said.out.splitlines()[-1] == f"report: {hublabel.output}/report.json"
    assert (hublabel.output / "_SUCCESS").exists()
