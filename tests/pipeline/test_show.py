from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline import cli
from tests.pictures import COLOURS
from tests.pipeline.running import Hublabel, in_process


@pytest.fixture
def output(
    colour_config: Path,
    picture_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Ten pictures, of which 004 is empty."""
    in_process(monkeypatch)
    (picture_folder / "004.png").write_bytes(b"")
    hublabel = Hublabel(colour_config, tmp_path / "out", capsys)
    hublabel.labelled()
    capsys.readouterr()
    return str(hublabel.output)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_tables(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, output).splitlines()
    assert lines[0].split() == ["image", "label", "score"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [f"{number:03d}.png", "failed:" if number == 4 else COLOURS[number % 3]] for number in range(10)
    ]
    assert [line.split()[0] for line in shown(capsys, output, "--label", "red").splitlines()[1:]] == [
        "000.png", "003.png", "006.png", "009.png",
    ]  # fmt: skip
    failed = shown(capsys, output, "--failed").splitlines()[1]
    assert " ".join(failed.split()) == "004.png failed: the file is empty (empty)"
    assert len(shown(capsys, output, "--rows", "3").splitlines()) == 4


def test_csv_and_json_lines_hold_every_row(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(capsys, output, "--csv"))))
    lines = [json.loads(line) for line in shown(capsys, output, "--jsonl").splitlines()]
    assert [int(row["row"]) for row in rows] == [line["row"] for line in lines] == list(range(10))
    assert lines[4]["label"] is None
    assert rows[4]["label"] == ""
    assert json.loads(rows[1]["top_k"]) == lines[1]["top_k"]
    assert len(shown(capsys, output, "--jsonl", "--failed").splitlines()) == 1


def test_sql(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select label, count(*) as n from predictions group by all order by label nulls last"
    assert [line.split() for line in shown(capsys, output, "--query", sql).splitlines()] == [
        ["label", "n"], ["blue", "3"], ["green", "2"], ["red", "4"], ["1"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    ["select nothing from predictions", "select * from read_csv('/etc/passwd')", "set enable_external_access=true"],
)
def test_sql_that_is_wrong_or_looks_elsewhere_is_refused(
    output: str, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show", output, "--query", sql, "--csv"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("hublabel: --query: ")
    assert "Traceback" not in captured.err


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"hublabel: {tmp_path}: no run here (no run.yaml)\n"
