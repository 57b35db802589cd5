"""`hublabel retry` and `run --extend`, whole, in process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import cli, supervise
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.running import ChildInProcess, Hublabel, expected_row, fingerprints, in_process


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> type[ChildInProcess]:
    return in_process(monkeypatch)


@pytest.fixture
def hublabel(
    colour_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], children: type[ChildInProcess],
    picture_folder: Path,
) -> Hublabel:  # fmt: skip
    """Run once over ten pictures of which 1 is empty, 6 is text and 8 is gone."""
    (picture_folder / "001.png").write_bytes(b"")
    (picture_folder / "006.png").write_text("not a picture")
    (picture_folder / "008.png").unlink()
    (picture_folder / "008.png").symlink_to(tmp_path / "gone.png")
    hublabel = Hublabel(colour_config, tmp_path / "out", capsys)
    assert [row["error_type"] for row in hublabel.labelled() if row["status"] == "failed"] == [
        "empty", "unsupported_format", "not_found",
    ]  # fmt: skip
    children.started = 0
    return hublabel


def mend(folder: Path, *numbers: int) -> None:
    for number in numbers:
        path = folder / f"{number:03d}.png"
        path.unlink()
        path.write_bytes(picture_bytes(colour_of(number)))


def names(hublabel: Hublabel) -> list[str]:
    return [part.name for part in hublabel.parts()]


def test_failed_rows_alone_are_tried_again(
    hublabel: Hublabel, picture_folder: Path, children: type[ChildInProcess]
) -> None:
    before = {row["row"]: row for row in hublabel.rows()}
    untouched = fingerprints(hublabel.output)
    mend(picture_folder, 1, 8)
    recorded = (hublabel.output / "run.yaml").read_bytes()
    (picture_folder / "002.png").write_bytes(b"a good row's image is not looked at again")
    assert cli.main(["retry", str(hublabel.output)]) == 0
    rows = {row["row"]: row for row in hublabel.rows()}
    assert names(hublabel) == ["part-00000-g001.parquet", "part-00001-g001.parquet", "part-00002-g001.parquet"]
    assert not set(fingerprints(hublabel.output)) & set(untouched)
    for number in range(10):
        if number in (1, 8):
            assert rows[number] == expected_row(number, picture_folder / f"{number:03d}.png", number)
        else:
            assert rows[number] == before[number]
    assert hublabel.report()["status"] == {"ok": 9, "failed": 1}
    assert (hublabel.output / "_SUCCESS").exists()
    assert cli.main(["retry", str(hublabel.output)]) == 0  # the text is still no picture
    assert names(hublabel) == ["part-00000-g001.parquet", "part-00001-g002.parquet", "part-00002-g001.parquet"]
    assert {row["row"]: row for row in hublabel.rows()} == rows
    assert children.started == 2
    assert (hublabel.output / "run.yaml").read_bytes() == recorded


def test_failures_are_chosen_by_stage_and_type(
    hublabel: Hublabel, picture_folder: Path, children: type[ChildInProcess]
) -> None:
    mend(picture_folder, 1, 6, 8)
    assert cli.main(["retry", str(hublabel.output), "--stage", "read"]) == 0
    assert [row["row"] for row in hublabel.rows() if row["status"] == "failed"] == [1, 6]
    assert cli.main(["retry", str(hublabel.output), "--type", "timeout"]) == 0
    assert children.started == 1, "nothing had timed out"
    assert cli.main(["retry", str(hublabel.output), "--type", "empty", "--stage", "decode"]) == 0
    assert [row["row"] for row in hublabel.rows() if row["status"] == "failed"] == [6]


def test_a_retry_that_mends_too_little_does_not_finish_a_run_over_its_budget(
    hublabel: Hublabel, picture_folder: Path
) -> None:
    strict = ["--set", "run.max_failed={fraction: 0, at_least: 1}"]
    assert hublabel.run(*strict).code == 3
    (hublabel.output / "_SUCCESS").unlink(missing_ok=True)
    mend(picture_folder, 1)
    assert cli.main(["retry", str(hublabel.output)]) == 3
    assert not (hublabel.output / "_SUCCESS").exists()
    mend(picture_folder, 6)
    assert cli.main(["retry", str(hublabel.output)]) == 0
    assert (hublabel.output / "_SUCCESS").exists()


def test_a_killed_retry_leaves_every_row_once_whoever_goes_on(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the commit of a newer part and the removal of the older one."""
    mend(picture_folder, 1)
    with monkeypatch.context() as patch:
        patch.setattr("transforms.write_shards.remove_superseded", lambda storage, shard: None)
        patch.setattr(supervise, "_finish", lambda storage, outcome: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main(["retry", str(hublabel.output)]) == 130
    assert len(names(hublabel)) == 6
    assert not (hublabel.output / "_SUCCESS").exists()
    rows = hublabel.labelled()
    assert [row["row"] for row in rows] == list(range(10))
    assert [row["row"] for row in rows if row["status"] == "failed"] == [6, 8]
    assert hublabel.report()["status"] == {"ok": 8, "failed": 2}


def test_new_images_are_taken_up_on_request_and_only_they(
    hublabel: Hublabel, picture_folder: Path, children: type[ChildInProcess]
) -> None:
    before, rows_before = fingerprints(hublabel.output), hublabel.rows()
    for number in (10, 11):
        (picture_folder / f"000-new-{number}.png").write_bytes(picture_bytes(colour_of(number)))
    assert "nothing to do" in hublabel.run().out
    assert fingerprints(hublabel.output) == before
    said = hublabel.run("--extend")
    assert said.code == 0
    assert "2 new images in 1 new shards" in said.err
    rows = hublabel.rows()
    assert rows[:10] == rows_before
    assert rows[10:] == [expected_row(n, picture_folder / f"000-new-{n}.png", n) for n in (10, 11)]
    after = fingerprints(hublabel.output)
    assert len(hublabel.parts()) == 4
    assert all(after[name] == before[name] for name in ("part-00001.parquet", "part-00002.parquet"))
    assert "0 new images" in hublabel.run("--extend").err
    assert children.started == 1


def test_a_retry_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["retry", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"hublabel: {tmp_path}: no run here (no run.yaml)\n"
