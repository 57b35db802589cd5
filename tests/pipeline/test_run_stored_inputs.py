"""Whole runs over inputs on object stores, alone and beside local ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import cli
from pipeline.config import load_config
from pipeline.console import voice
from pipeline.pinning import pinned_record
from pipeline.signals import Signals
from tests.pipeline.lake import Lake, tar
from tests.pipeline.running import ChildInProcess, Hublabel, expected_row
from transforms.storage import open_storage


def test_a_run_over_every_kind_of_stored_input(lake: Lake, hublabel: Hublabel, picture_folder: Path) -> None:
    pictures = [path.read_bytes() for path in sorted(picture_folder.iterdir())]
    for number in (1, 0):
        lake.put(f"photos/{number}.png", pictures[number])
    lake.put("lists/a.csv", "n,uri\n7,../photos/1.png\n8,none.png\n")
    lake.put("shards/0.tar", tar({"x/2.png": pictures[2], "x/3.png": pictures[3]}))
    wanted = [
        (f"{lake.root}/photos/0.png", 0, None),
        (f"{lake.root}/photos/1.png", 1, None),
        (f"{lake.root}/photos/1.png", 1, 7),
        (f"{lake.root}/lists/none.png", None, 8),
        (f"{lake.root}/shards/0.tar#x/2.png", 2, None),
        (f"{lake.root}/shards/0.tar#x/3.png", 3, None),
        (f"{picture_folder}/004.png", 4, None),
    ]
    paths = ["photos/", "lists/*.csv", "shards/*.tar"]
    inputs = ", ".join([*(f"{lake.root}/{path}" for path in paths), f"{picture_folder}/004.png"])
    arguments = ["--set", f"input.path=[{inputs}]", "--set", "input.columns=[n]"]
    rows = hublabel.labelled(*arguments)
    for row, (uri, number, n) in zip(rows, wanted, strict=True):
        if number is None:
            assert (row["uri"], row["n"], row["error_stage"], row["error_type"]) == (uri, n, "read", "not_found")
        else:
            picture = picture_folder / f"{number:03d}.png"
            assert row == expected_row(row["row"], picture, number) | {"uri": uri, "n": n}
    lake.put("photos/2.png", pictures[5])
    assert hublabel.labelled(*arguments) == rows  # the plan is made once
    longer = hublabel.labelled(*arguments, "--extend")
    assert longer[:7] == rows
    added = expected_row(7, picture_folder / "005.png", 5) | {"uri": f"{lake.root}/photos/2.png", "n": None}
    assert longer[7:] == [added]
    lake.put("lists/none.png", pictures[6])
    assert cli.main(["retry", str(hublabel.output)]) == 0
    assert hublabel.rows()[3] == expected_row(3, picture_folder / "006.png", 6) | {"uri": wanted[3][0], "n": 8}


def test_an_output_below_its_own_input(lake: Lake, colour_config: Path, picture_folder: Path) -> None:
    picture = (picture_folder / "000.png").read_bytes()
    for name in ("0.png", "1.png", "out/mine.png", "out/mine.txt"):
        lake.put(f"photos/{name}", picture)
    config = load_config(colour_config, [f"input.path={lake.root}/photos/", f"output.path={lake.root}/photos/out"])
    storage = open_storage(config.output.path)
    plan = pinned_record(config, storage, voice("quiet"), Signals()).plan
    assert (plan.rows, plan.left_out) == (2, {})
    lake.put("photos/2.png", picture)
    longer = pinned_record(config, storage, voice("quiet"), Signals(), extend=True).plan
    assert (longer.rows, longer.left_out) == (3, {})


def test_a_tar_that_was_rewritten_since_it_was_planned(lake: Lake, hublabel: Hublabel, picture_folder: Path) -> None:
    picture = (picture_folder / "000.png").read_bytes()
    uri = lake.put("s.tar", tar({"0.png": picture, "1.png": picture[:50], "2.png": picture[:50]}))
    arguments = ["--set", f"input.path={uri}", "--set", "run.max_failed.fraction=1"]
    assert [row["error_type"] for row in hublabel.labelled(*arguments)] == [None, "truncated", "truncated"]
    lake.put("s.tar", tar({"0.png": picture, "2.png": picture, "1.png": picture}))
    assert cli.main(["retry", str(hublabel.output)]) == 0
    rows = hublabel.rows()
    assert [(row["uri"], row["error_type"]) for row in rows] == [
        (f"{uri}#0.png", None), (f"{uri}#1.png", "changed"), (f"{uri}#2.png", "changed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{root}/nothing/", "'{root}/nothing/' does not exist; input.path takes"),
        ("{root}/*.jpg", "'{root}/*.jpg' matches no file; input.path takes"),
        ("{scheme}://no-bucket-here/a/", "'{scheme}://no-bucket-here/a/' cannot be read: {scheme}://no-bucket-here/"),
        ("{root}/photos/", "'{root}/photos/' cannot be read: {root}/photos/: "),
        ("hdfs://nn/photos/", "'hdfs://nn/photos/': hdfs:// is not supported here: list its images in a text file, "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_ends_the_command(
    lake: Lake, hublabel: Hublabel, children: type[ChildInProcess], path: str, said: str
) -> None:
    names = {"root": lake.root, "scheme": lake.server.scheme}
    lake.put("photos/a.png")
    lake.server.refuse = lambda method, path, headers: (403, "AccessDenied") if "/photos/" in said else None
    told = hublabel.run("--set", f"input.path={path.format(**names)}")
    assert told.code == 2
    assert told.err.startswith(f"hublabel: {hublabel.config}\nhublabel: input.path: {said.format(**names)}")
    assert "Traceback" not in told.err
    assert children.started == 0
    assert not list(hublabel.output.rglob("*.parquet"))
