from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import cli
from tests.hostile import ATTACKS, hostile_output
from tests.labelled_output import failed, labelled, output_of
from tests.pictures import picture_bytes

LABELS = ["red, scarlet", "green", "blue"]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    return tmp_path / "labels.txt"


@pytest.fixture
def output(tmp_path: Path, labels: Path) -> str:
    """Six images: four right, one wrong, one failed; and a truth for them and another one."""
    (tmp_path / "3.png").write_bytes(picture_bytes((200, 30, 40)))
    rows = [labelled(f"{tmp_path}/{n}.png", n % 2, 0.5 + n / 16, 2) for n in range(5)]
    rows.append(failed(f"{tmp_path}/5.png"))
    output_of(tmp_path / "out", rows, LABELS, sections={"model": {"labels": str(labels)}})
    truths = [0, 1, 0, 0, 0, 1, 2]
    (tmp_path / "truth.csv").write_text("uri,label_index\n" + "".join(f"{n}.png,{t}\n" for n, t in enumerate(truths)))
    return str(tmp_path / "out")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["evaluate", *arguments]) == 0
    return capsys.readouterr().out


def test_the_text(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in said(capsys, output, "--truth", f"{tmp_path}/truth.csv").splitlines()]
    assert lines == [
        f"6 images with a truth by index, from {tmp_path}/truth.csv",
        "1 images of the truth are not in the output, and do not count",
        "1 images failed, and count as wrong",
        "",
        "top-1 66.7 % (30.0 to 90.3)",
        "top-2 66.7 % (30.0 to 90.3)",
        "top-1 of the labelled 80.0 % (37.6 to 96.4)",
        "calibration error (ECE) 0.450",
        "in brackets: 95 % intervals (Wilson)",
        "",
        "to be right as often as",
        "accuracy keep scores from coverage right of those",
        "90% 0.750 16.7 % 100.0 % (20.7 to 100.0)",
        "95% 0.750 16.7 % 100.0 % (20.7 to 100.0)",
        "99% 0.750 16.7 % 100.0 % (20.7 to 100.0)",
        "",
        "classes with the lowest accuracy",
        "class right of accuracy taken for",
        "green 1 2 50.0 % (9.5 to 90.5) failed 1",
        "red 3 4 75.0 % (30.1 to 95.4) green 1",
        "",
        "most frequent confusions",
        "is taken for images",
        "red green 1",
        "",
        "most confident mistakes",
        "image is taken for score",
        "3.png red green 0.688",
    ]


def test_json(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, output, "--truth", f"{tmp_path}/truth.csv", "--json"))
    assert found["truth"] == {
        "source": f"{tmp_path}/truth.csv", "kind": "index", "found_by": "uri", "left_out": {},
        "images_without_truth": 0, "truths_without_image": 1,
    }  # fmt: skip
    assert {key: found[key] for key in ("images", "failed")} == {"images": 6, "failed": 1}
    assert found["top_1"] == {
        "count": 4, "of": 6, "value": pytest.approx(2 / 3),
        "interval": [pytest.approx(0.29999, abs=1e-4), pytest.approx(0.90323, abs=1e-4)],
    }  # fmt: skip
    assert found["top_2"]["count"] == 4
    assert [(of["label"], of["images"], of["failed"], of["accuracy"]["count"]) for of in found["classes"]] == [
        ("red, scarlet", 4, 0, 3), ("green", 2, 1, 1),
    ]  # fmt: skip
    assert found["confusions"] == [
        {"truth": "red, scarlet", "truth_index": 0, "guess": "green", "guess_index": 1, "images": 1}
    ]
    assert found["mistakes"] == [
        {"row": 3, "uri": f"{tmp_path}/3.png", "truth": "red, scarlet", "truth_index": 0, "guess": "green",
         "guess_index": 1, "score": 0.6875}
    ]  # fmt: skip
    assert found["calibration"]["expected_calibration_error"] == pytest.approx(0.45)
    assert [kept["coverage"] for kept in found["curve"]] == [pytest.approx(n / 6) for n in (5, 4, 3, 2, 1)]
    assert found["thresholds"][0]["threshold"]["score"] == 0.75


def test_the_page(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    out = said(capsys, output, "--truth", f"{tmp_path}/truth.csv", "--html", str(page))
    assert out.splitlines()[-1] == f"page: {page}"
    text = page.read_text()
    assert text.count('<img src="data:image/webp;base64,') == 1
    assert "66.7 % of 6 images are labelled right." in text
    assert cli.main(["evaluate", output, "--truth", f"{tmp_path}/truth.csv", "--html", f"{tmp_path}/no/a.html"]) == 1
    assert (
        capsys.readouterr().err
        == f"hublabel: --html: {tmp_path}/no/a.html cannot be written: No such file or directory\n"
    )


def test_labels_that_have_gone_are_told_by_the_rows(
    output: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels.unlink()
    mistake = said(capsys, output, "--truth", f"{tmp_path}/truth.csv").splitlines()[-1].split()
    assert mistake == ["3.png", "0", "green", "0.688"]


def test_what_is_wrong(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", output]) == 2
    assert capsys.readouterr().err == (
        "hublabel: evaluate: give --truth FILE, --truth folders, or --column NAME of a column carried from the input\n"
    )
    assert cli.main(["evaluate", str(tmp_path), "--truth", "folders"]) == 2
    assert capsys.readouterr().err == f"hublabel: {tmp_path}: no run here (no run.yaml)\n"


def test_credentials_are_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [labelled(f"https://me:secret@h/{n}.jpg?sig=hush", 0, 0.5) for n in range(3)]
    output_of(tmp_path / "out", rows, LABELS)
    lines = "".join(f"https://me:secret@h/{n}.jpg?sig=hush,1\n" for n in range(3))
    (tmp_path / "truth.csv").write_text(f"uri,label_index\n{lines}")
    page = tmp_path / "page.html"
    arguments = [str(tmp_path / "out"), "--truth", f"{tmp_path}/truth.csv", "--html", str(page)]
    told = said(capsys, *arguments) + said(capsys, *arguments, "--json") + page.read_text().partition("/* Vega")[0]
    assert "https://***@h/0.jpg?sig=***" in told
    assert "secret" not in told
    assert "hush" not in told


def test_hostile_texts_are_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile_output(tmp_path / "out")
    truths = "".join(
        json.dumps({"uri": f"/nowhere/{text}", "cls": (n + 1) % 15}) + "\n" for n, text in enumerate(ATTACKS)
    )
    (tmp_path / "truth.jsonl").write_text(truths)
    page = tmp_path / "page.html"
    said(capsys, str(tmp_path / "out"), "--truth", f"{tmp_path}/truth.jsonl", "--html", str(page))
    text = page.read_text()
    before = text.partition('<script type="application/json"')[0]
    assert "<script" not in before
    for attack in ATTACKS[:6]:
        assert attack not in before
