"""Whole runs of the command, the pipeline's process played in this one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from pipeline.record import RunRecord
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.running import ChildInProcess, Hublabel, expected_row, fingerprints
from transforms.parts import read_footer
from transforms.storage import LocalStorage


def test_every_image_has_its_exact_row(hublabel: Hublabel, picture_folder: Path) -> None:
    said = hublabel.run()
    assert said.code == 0
    assert hublabel.rows() == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert [part.name for part in hublabel.parts()] == [f"part-0000{n}.parquet" for n in range(3)]
    assert said.err.splitlines() == [
        f"hublabel: {hublabel.config}", "10 images in 3 shards", "loading the model ...", "labelling ...",
    ]  # fmt: skip
    assert "10 images: 10 labelled, 0 failed\n" in said.out
    assert f"predictions: {hublabel.output}/predictions (Parquet)\n" in said.out
    assert "000.png  red    1.000" in said.out


def test_a_second_run_does_nothing_and_says_so(hublabel: Hublabel, children: type[ChildInProcess]) -> None:
    rows = hublabel.labelled()
    before = fingerprints(hublabel.output)
    success = (hublabel.output / "_SUCCESS").stat()
    said = hublabel.run()
    assert said.code == 0
    assert "nothing to do: every image has its row already\n10 images: 10 labelled, 0 failed\n" in said.out
    assert children.started == 1
    assert hublabel.rows() == rows
    assert fingerprints(hublabel.output) == before
    assert (hublabel.output / "_SUCCESS").stat().st_mtime_ns == success.st_mtime_ns


def test_only_what_is_missing_is_labelled_again(hublabel: Hublabel, children: type[ChildInProcess]) -> None:
    rows = hublabel.labelled()
    before = fingerprints(hublabel.output)
    hublabel.parts()[1].unlink()
    said = hublabel.run()
    assert said.code == 0
    assert "going on: 6 of 10 images are done\n" in said.err
    assert children.started == 2
    assert hublabel.rows() == rows
    after = fingerprints(hublabel.output)
    assert after.pop("part-00001.parquet") != before.pop("part-00001.parquet")
    assert after == before
    assert hublabel.report()["last_session"]["images"] == 4
    assert hublabel.report()["images"] == 10


def test_a_damaged_part_is_labelled_again(hublabel: Hublabel) -> None:
    rows = hublabel.labelled()
    part = hublabel.parts()[2]
    part.write_bytes(part.read_bytes()[:-5])
    said = hublabel.run()
    assert said.code == 0
    assert "damaged: predictions/00000/part-00002.parquet: not a readable Parquet file" in said.err
    assert hublabel.rows() == rows


def test_what_a_killed_attempt_left_is_tidied_up(hublabel: Hublabel) -> None:
    left = hublabel.output / "predictions" / "00000" / ".tmp-part-00001.parquet-0123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a part")
    hublabel.labelled()
    assert sorted(path.name for path in left.parent.iterdir()) == [part.name for part in hublabel.parts()]


def test_a_report_that_is_gone_is_written_again(hublabel: Hublabel, children: type[ChildInProcess]) -> None:
    hublabel.labelled()
    (hublabel.output / "report.json").unlink()
    assert hublabel.run().code == 0
    assert hublabel.report()["images"] == 10
    assert children.started == 1


def test_broken_images_are_failed_rows_and_the_run_succeeds(hublabel: Hublabel, picture_folder: Path) -> None:
    (picture_folder / "003.png").write_bytes(b"")
    (picture_folder / "007.png").write_text("not a picture at all")
    said = hublabel.run()
    assert said.code == 0
    rows = hublabel.rows()
    good = [n for n in range(10) if n not in (3, 7)]
    assert [rows[n] for n in good] == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in good]
    for number, kind in ((3, "empty"), (7, "unsupported_format")):
        row = rows[number]
        assert (row["status"], row["error_stage"], row["error_type"]) == ("failed", "decode", kind)
        assert row["label"] is row["label_index"] is row["score"] is row["top_k"] is None
        assert row["bytes"] == (picture_folder / f"{number:03d}.png").stat().st_size
    assert "10 images: 8 labelled, 2 failed\n" in said.out
    assert "  1 decode/empty\n" in said.out
    assert hublabel.report()["errors"] == {"decode/empty": 1, "decode/unsupported_format": 1}


def test_equal_uris_keep_their_own_rows(hublabel: Hublabel, picture_folder: Path, tmp_path: Path) -> None:
    uris = [str(picture_folder / name) for name in ("004.png", "001.png", "004.png", "004.png", "001.png")]
    (tmp_path / "uris.txt").write_text("\n".join(uris) + "\n")
    rows = hublabel.labelled("--set", f"input.path={tmp_path}/uris.txt")
    assert rows == [expected_row(n, Path(uri), int(Path(uri).stem)) for n, uri in enumerate(uris)]


def test_limit(hublabel: Hublabel, picture_folder: Path) -> None:
    rows = hublabel.labelled("--limit", "5")
    assert rows == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(5)]
    refused = hublabel.run("--limit", "6")
    assert refused.code == 2
    assert "input.limit: the run has 5, now it is 6" in refused.err


def test_a_later_override_wins_and_sets_the_output(hublabel: Hublabel, tmp_path: Path) -> None:
    assert hublabel.run("--set", "input.limit=1", "--set", f"output.path={tmp_path}/else", "--limit", "3").code == 0
    assert not hublabel.output.exists()
    hublabel.output = tmp_path / "else"
    assert len(hublabel.rows()) == 3


@pytest.mark.parametrize("name", ["out[/b] [0-9]*?{x}", 'it\'s :smile: ü "%s"', "a#b%20c&d"])
def test_paths_are_taken_and_shown_as_they_are(hublabel: Hublabel, picture_folder: Path, name: str) -> None:
    folder = hublabel.output.parent
    hublabel.output = folder / name
    photos = picture_folder.rename(folder / f"photos {name.replace('/', '')}")
    (folder / "uris.txt").write_text("".join(f"{path}\n" for path in sorted(photos.iterdir())))
    said = hublabel.run("--set", f"input.path={folder}/uris.txt", "--set", f"output.path={hublabel.output}")
    assert said.code == 0, said.err
    assert hublabel.rows() == [expected_row(n, photos / f"{n:03d}.png", n) for n in range(10)]
    assert f"predictions: {hublabel.output}/predictions (Parquet)\n" in said.out
    assert "\n000.png  red    1.000\n" in said.out


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_batch_size_changes_no_row(hublabel: Hublabel, picture_folder: Path, batch_size: int) -> None:
    rows = hublabel.labelled("--set", f"batch.size={batch_size}", "--set", "run.shard_size=9")
    assert rows == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert len(hublabel.parts()) == 2


def test_batch_size_and_paths_may_change_on_the_way(hublabel: Hublabel, colour_model: Path, tmp_path: Path) -> None:
    rows = hublabel.labelled()
    hublabel.parts()[0].unlink()
    moved = tmp_path / "moved"
    os.symlink(colour_model, moved)
    assert hublabel.labelled("--set", "batch.size=3", "--set", f"model.handle={moved}") == rows
    record = yaml.safe_load((hublabel.output / "run.yaml").read_text())
    assert (record["config"]["batch"]["size"], record["model"]) == (3, str(moved))


# What the output holds besides the parts.


def test_the_report_says_what_the_run_amounts_to(hublabel: Hublabel, picture_folder: Path) -> None:
    (picture_folder / "010.png").write_bytes(picture_bytes(colour_of(10))[:-30])
    hublabel.labelled()
    report = hublabel.report()
    assert report["images"] == 11
    assert report["status"] == {"ok": 10, "failed": 1}
    assert report["errors"] == {"decode/truncated": 1}
    assert report["labels"] == {"red": 4, "green": 3, "blue": 3}
    assert report["plan"] == {"rows": 11, "shards": 3, "left_out": {}}
    session = report["last_session"]
    assert session["images"] == 11
    assert list(session["phase_seconds"]) == ["starting", "loading the model", "labelling"]
    assert session["seconds"] == pytest.approx(sum(session["phase_seconds"].values()), abs=0.01)
    assert session["images_per_second"] > 0
    assert sorted(report["thread_seconds"]) == ["decode", "model", "read", "write"]
    assert all(seconds >= 0 for seconds in report["thread_seconds"].values())
    assert report["config"]["image"]["size"] == [8, 8]
    assert {"python", "system", "tensorflow", "apache-beam", "pyarrow", "numpy"} <= set(report["versions"])
    assert report["fingerprints"]["pins"]["model.outputs.logits"] == "output"
    for part in hublabel.parts():
        footer = read_footer(str(part))
        assert footer.run == report["fingerprints"]["run"]
        assert footer.plan == report["fingerprints"]["plan"]


def test_success_comes_last_and_is_not_empty(hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for method in ("replace", "put_if_absent"):
        real = getattr(LocalStorage, method)

        def noted(self: LocalStorage, name: str, data: bytes, real=real) -> bool | None:
            order.append(name)
            return real(self, name, data)

        monkeypatch.setattr(LocalStorage, method, noted)
    hublabel.labelled()
    assert order[0] == "run.yaml"
    parts = [name for name in order if name.startswith("predictions/")]
    assert sorted(parts) == [f"predictions/00000/part-0000{n}.parquet" for n in range(3)]
    assert order[-2:] == ["report.json", "_SUCCESS"]
    assert json.loads((hublabel.output / "_SUCCESS").read_text()) == {"rows": 10, "failed": 0}


def test_success_is_gone_while_work_is_left(hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch) -> None:
    hublabel.labelled()
    hublabel.parts()[0].unlink()
    seen: list[bool] = []
    real = ChildInProcess.poll

    def poll(self: ChildInProcess) -> int:
        seen.append((hublabel.output / "_SUCCESS").exists())
        return real(self)

    monkeypatch.setattr(ChildInProcess, "poll", poll)
    hublabel.labelled()
    assert seen == [False]
    assert (hublabel.output / "_SUCCESS").exists()


def test_run_yaml_pins_the_run(hublabel: Hublabel) -> None:
    hublabel.labelled()
    text = (hublabel.output / "run.yaml").read_text()
    values = yaml.safe_load(text)
    assert text.startswith("# What this run is pinned to.")
    assert values["format"] == 1
    assert values["plan"]["rows"] == 10
    assert values["config"]["output"]["top_k"] == 3
    assert values["fingerprint"] == RunRecord("", {}, "", values["pins"], values["plan"], {}).fingerprint
    for pin in ("model files", "label file", "image.geometry", "input.path", "library tensorflow"):
        assert values["pins"][pin] is not None


def test_the_folder_is_read_by_whoever_reads_parquet(hublabel: Hublabel) -> None:
    import duckdb
    import pandas
    import polars

    rows = hublabel.labelled()
    folder = hublabel.output / "predictions"
    expected = [(row["row"], row["uri"], row["label"]) for row in rows]
    query = f"select row, uri, label from read_parquet('{folder}/**/*.parquet') order by row"
    assert duckdb.sql(query).fetchall() == expected
    frame = pandas.read_parquet(folder).sort_values("row")
    assert list(frame[["row", "uri", "label"]].itertuples(index=False, name=None)) == expected
    assert polars.read_parquet(folder).sort("row").select("row", "uri", "label").rows() == expected


# Too many failures.


def test_too_many_failed_images_end_the_run_with_3(hublabel: Hublabel, picture_folder: Path) -> None:
    for number in range(2, 10):
        (picture_folder / f"{number:03d}.png").write_bytes(b"broken")
    budget = ["--set", "run.max_failed.at_least=5", "--set", "run.max_failed.fraction=0.7"]
    said = hublabel.run(*budget)
    assert said.code == 3
    assert "8 images failed, and run.max_failed allows 7 of 10" in said.err
    assert not (hublabel.output / "_SUCCESS").exists()
    assert len(hublabel.rows()) == 10
    again = hublabel.run(*budget)
    assert again.code == 3
    assert not (hublabel.output / "_SUCCESS").exists()
    more = hublabel.run("--set", "run.max_failed.at_least=8")
    assert more.code == 0
    assert "nothing to do" in more.out


@pytest.mark.parametrize("budget", [["fraction=0.2", "at_least=0"], ["fraction=0", "at_least=2"]])
def test_as_many_failures_as_allowed_are_fine(hublabel: Hublabel, picture_folder: Path, budget: list[str]) -> None:
    for number in (0, 9):
        (picture_folder / f"{number:03d}.png").write_bytes(b"broken")
    overrides = [f"run.max_failed.{value}" for value in budget]
    assert hublabel.run("--set", overrides[0], "--set", overrides[1]).code == 0
