"""Outputs that a crash of the machine has damaged: told, and labelled again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import cli
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.going_on import goes_on
from tests.pipeline.running import ChildInProcess, Hublabel, fingerprints


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "tail of zeros", "another file"])
def test_a_part_that_a_crash_of_the_machine_has_damaged(damage: str, hublabel: Hublabel, picture_folder: Path) -> None:
    hublabel.labelled()
    part = hublabel.parts()[1]
    data = part.read_bytes()
    part.write_bytes(
        {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "zeros": bytes(len(data)),
            "tail of zeros": data[:-100] + bytes(100),
            "another file": hublabel.parts()[0].read_bytes(),
        }[damage]
    )
    kept = fingerprints(hublabel.output)
    del kept[part.name]
    said = hublabel.run()
    assert said.code == 0
    assert "damaged: predictions/00000/part-00001.parquet: " in said.err
    assert "its images are labelled again\n" in said.err
    goes_on(hublabel, picture_folder, kept)


@pytest.mark.parametrize("name", ["plan/plan-00000.parquet", "run.yaml", "report.json"])
def test_what_else_a_crash_has_cut_short_is_told(
    name: str, hublabel: Hublabel, picture_folder: Path, children: type[ChildInProcess]
) -> None:
    hublabel.labelled()
    if name.startswith("plan"):
        hublabel.parts()[1].unlink()
    path = hublabel.output / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    said = hublabel.run()
    told = said.err.splitlines()[-1]
    assert told.startswith(f"hublabel: {path}: ")
    assert "Traceback" not in said.err
    assert said.code == (2 if name == "run.yaml" else 1)
    path.write_bytes(data)
    goes_on(hublabel, picture_folder, fingerprints(hublabel.output))


def flip_a_bit(part: Path) -> None:
    """In the page of `row`, at the file's start; the footer stays sound."""
    data = bytearray(part.read_bytes())
    data[45] ^= 1
    part.write_bytes(bytes(data))


def test_a_flipped_bit_is_told_when_rows_are_read_and_never_carried_over(
    hublabel: Hublabel, picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (picture_folder / "001.png").write_bytes(b"no picture")
    assert hublabel.run().code == 0
    whole = hublabel.parts()[0].read_bytes()
    flip_a_bit(hublabel.parts()[0])
    told = f"{hublabel.parts()[0]}: its rows cannot be read ("
    assert cli.main(["verify", str(hublabel.output)]) == 1
    (picture_folder / "001.png").write_bytes(picture_bytes(colour_of(1)))
    capsys.readouterr()
    assert cli.main(["retry", str(hublabel.output)]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    message = err.splitlines()[-1]
    assert message.startswith(f"hublabel: {told}")
    assert message.endswith("); delete it, and `hublabel run` labels its images again")
    assert hublabel.parts()[0].read_bytes() != whole
    hublabel.parts()[0].unlink()
    goes_on(hublabel, picture_folder, {})
