import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.extend import extend_plan
from pipeline.plan import joint_fingerprint, write_plan
from pipeline.record import save_record
from pipeline.verify import verify
from tests.outputs import MadeOutput, make_output
from tests.pipeline.verifying import flip, problems_of, read_made, said
from transforms.parts import part_name
from transforms.records import Shard


@pytest.fixture
def made(tmp_path: Path) -> MadeOutput:
    return make_output(tmp_path / "out")


def test_a_finished_output_is_whole(made: MadeOutput, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, str(made.path))
    assert code == 0
    assert err == ""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "checked result",
        "plan 10 images in 3 shards ok",
        "parts 3 of 3 ok",
        "rows 10, 1 of them failed ok",
        "other files left over, foreign or superseded ok",
        "report.json, _SUCCESS against the rows ok",
        "all is there",
    ]


def test_nothing_is_changed(made: MadeOutput, capsys: pytest.CaptureFixture[str]) -> None:
    (made.path / "predictions/00000/.tmp-part").write_bytes(b"")
    made.part(1).write_bytes(b"broken")

    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in made.path.rglob("*")}

    before = state()
    assert said(capsys, str(made.path))[0] == 1
    assert state() == before


# What is missing.


def test_an_unfinished_output_says_what_is_left(made: MadeOutput, capsys: pytest.CaptureFixture[str]) -> None:
    os.remove(made.part(0))
    os.remove(made.part(2))
    os.remove(made.path / "_SUCCESS")
    os.remove(made.path / "report.json")
    code, out, _ = said(capsys, str(made.path))
    assert code == 1
    assert (
        "parts: no parts for 2 shards (00000/00000, 00000/00002): 6 images not labelled yet; "
        "run the same command again to go on\n" in out
    )
    assert len(problems_of(made)) == 1


def test_a_missing_part_of_a_finished_run_belies_success(made: MadeOutput) -> None:
    os.remove(made.part(1))
    assert problems_of(made) == [
        "parts: no parts for 1 shard (00000/00001): 4 images not labelled yet; run the same command again to go on",
        "report.json, _SUCCESS: _SUCCESS is there, and parts are missing; run the same command again",
    ]


def test_no_run_and_a_damaged_record(made: MadeOutput, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, str(tmp_path)) == (1, "", f"hublabel: {tmp_path}: no run here (no run.yaml)\n")
    assert said(capsys, str(tmp_path / "nowhere"))[0] == 1
    text = (made.path / "run.yaml").read_text()
    (made.path / "run.yaml").write_text(text[: len(text) // 2])
    code, _, err = said(capsys, str(made.path))
    assert code == 1
    assert err.startswith(f"hublabel: {made.path}/run.yaml: damaged")
    assert said(capsys, "ftp://host/out")[0] == 1


# The plan.


def test_a_missing_plan_file(made: MadeOutput) -> None:
    os.remove(made.path / "plan/plan-00000.parquet")
    found = problems_of(made)
    assert found[0] == "plan: plan/plan-00000.parquet: missing"
    assert found[1:] == [
        f"rows: {part_name(s)}: cannot be compared, its shard of the plan is damaged" for s in made.shards
    ]


def test_a_truncated_plan_file(made: MadeOutput) -> None:
    plan = made.path / "plan/plan-00000.parquet"
    plan.write_bytes(plan.read_bytes()[:-20])
    assert problems_of(made)[0].startswith("plan: plan/plan-00000.parquet: damaged: ")


def test_a_flipped_bit_in_the_plan(made: MadeOutput) -> None:
    flip(made.path / "plan/plan-00000.parquet", 40)
    assert problems_of(made)[0].startswith("plan: plan/plan-00000.parquet, shard 0: damaged: ")


def replan(made: MadeOutput, uris: list[str], shard_size: int = 4, first_row: int = 0) -> None:
    batches = iter([pa.record_batch({"uri": pa.array(uris)})])
    write_plan(batches, made.path, batch_size=2, shard_size=shard_size, left_out=Counter(), first_row=first_row)


def test_another_plan_in_its_place(made: MadeOutput) -> None:
    replan(made, [f"https://user:pw@host/{number}.png?sig={number}" for number in range(10)], shard_size=5)
    assert problems_of(made)[0] == (
        "plan: plan/plan-00000.parquet: it has 10 rows in 2 shards, and run.yaml says 10 in 3"
    )
    replan(made, [f"other/{number}.png" for number in range(10)])
    found = problems_of(made)
    assert found[0] == "plan: plan/: its URIs are not those the run was planned with (fingerprint)"
    assert found[1] == (
        "rows: predictions/00000/part-00000.parquet: uri is not the plan's: 4 rows, the first of them 0"
    )
    replan(made, [f"https://user:pw@host/{number}.png?sig={number}" for number in range(10)], first_row=1)
    assert problems_of(made)[0] == "plan: plan/plan-00000.parquet, shard 0: its rows are not numbered from 0 on"


def test_an_extended_plan_is_whole_and_an_unrecorded_file_is_told(made: MadeOutput) -> None:
    batches = iter([pa.record_batch({"uri": pa.array(["new/a.png", "new/b.png", "new/c.png"])})])
    added = write_plan(batches, made.path, batch_size=2, shard_size=2, left_out=Counter(), first_row=10, first_file=1)
    assert problems_of(made) == [
        "other files: plan/plan-00001.parquet: not of the plan that run.yaml records; delete it"
    ]
    old = made.record.plan
    made.record = replace(made.record, plan=replace(old, rows=13, shards=5, files=(*old.files, *added.files)))
    save_record(made.storage, made.record)
    for shard in made.shards[3:]:
        made.label(shard)
    made.finish()
    assert problems_of(made) == []


def test_a_plan_file_of_an_extension_in_whose_place_another_lies(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        (photos / f"{name}.png").touch()
    for planned_by_workers in (False, True):
        made = make_output(tmp_path / f"out-{planned_by_workers}", images=4, shard_size=4)
        plan = made.record.plan
        if planned_by_workers:  # then the fingerprint is made of those of the files
            whole = replace(plan.files[0], fingerprint=plan.fingerprint)
            plan = replace(plan, files=(whole,), fingerprint=joint_fingerprint([whole]))
        longer = extend_plan(plan, str(photos), made.path, batch_size=2, shard_size=2)
        assert (longer.rows, len(longer.files), longer.fingerprint) == (7, 2, plan.fingerprint)
        made.record = replace(made.record, plan=longer)
        save_record(made.storage, made.record)
        assert not [line for line in problems_of(made) if line.startswith("plan:")]
        batches = iter([pa.record_batch({"uri": pa.array(["a.png", "b.png", "x.png"])})])
        write_plan(batches, made.path, batch_size=2, shard_size=2, left_out=Counter(), first_row=4, first_file=1)
        assert [line for line in problems_of(made) if line.startswith("plan:")] == [
            "plan: plan/plan-00001.parquet: its URIs are not those the run was planned with (fingerprint)"
        ]


# What should not be there.


def test_foreign_left_over_and_superseded_files(made: MadeOutput) -> None:
    for name in (
        "predictions/00000/.tmp-part-00001.parquet-0a", "predictions/00000/part-00003.parquet",
        "predictions/00000/copy of part-00001.parquet", "predictions/00007/part-00000.parquet",
        "predictions/notes.txt", ".tmp-run.yaml-0a", "plan.partial/spool.arrow", "plan/plan-00001.parquet",
        "attempts/00000/00001-1", "predictions/.DS_Store", "predictions/00000/.DS_Store",
    ):  # fmt: skip
        path = made.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.part(1), path)
    left_over = "left over from an attempt that was killed (or a run is at work); delete it"
    foreign = "no part of this run; readers of the folder would take it for one"
    assert problems_of(made) == [
        f"other files: {line}"
        for line in (
            f"predictions/00000/.tmp-part-00001.parquet-0a: {left_over}",
            f"predictions/00000/copy of part-00001.parquet: {foreign}",
            f"predictions/00000/part-00003.parquet: {foreign}",
            f"predictions/00007/part-00000.parquet: {foreign}",
            f"predictions/notes.txt: {foreign}",
            "plan/plan-00001.parquet: not of the plan that run.yaml records; delete it",
            f".tmp-run.yaml-0a: {left_over}",
            f"plan.partial: {left_over}",
            "attempts/00000/00001-1: mark of an attempt, left over; delete it",
        )
    ]


def test_generations(made: MadeOutput) -> None:
    """A newer part counts alone; the older one beside it would be read as well."""
    shard = made.shards[0]
    made.label(Shard(shard.file, shard.row_group, shard.rows, generation=2))
    assert problems_of(made) == [
        "other files: predictions/00000/part-00000.parquet: superseded by generation 2; readers see its rows twice"
    ]
    os.remove(made.part(0))
    assert problems_of(made) == []


# What the run says of itself.


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("_SUCCESS", '{"rows": 9, "failed": 1}', "_SUCCESS: rows is not what the parts add up to: it says 9, they 10"),
        ("_SUCCESS", "", "_SUCCESS is damaged"),
        ("_SUCCESS", None, "no _SUCCESS: all rows are there, the run was not finished; run it again"),
        ("report.json", None, "no report.json"),
        ("report.json", '{"images": 10', "report.json is damaged"),
    ],
)  # fmt: skip
def test_success_and_report(made: MadeOutput, name: str, content: str | None, problem: str) -> None:
    os.remove(made.path / name)
    if content is not None:
        (made.path / name).write_text(content)
    assert problems_of(made) == [f"report.json, _SUCCESS: {problem}"]


@pytest.mark.parametrize(
    ("key", "value"), [("images", 9), ("status", {"ok": 10, "failed": 0}), ("errors", {}), ("labels", {"red": 9})]
)
def test_a_report_that_miscounts(made: MadeOutput, key: str, value: object) -> None:
    report = json.loads((made.path / "report.json").read_text())
    (made.path / "report.json").write_text(json.dumps({**report, key: value}))
    (problem,) = problems_of(made)
    assert problem.startswith(f"report.json, _SUCCESS: report.json: {key} is not what the parts add up to")


def test_many_problems_are_counted_and_the_first_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_output(tmp_path / "out", images=30, shard_size=2)
    for index in range(14):
        made.part(index).write_bytes(b"")
    code, out, _ = said(capsys, str(made.path))
    assert code == 1
    assert out.count("parts: predictions/") == 10
    assert "parts: and 4 more\n" in out
    assert out.endswith(f"{made.path}: not all is there, or not as it should be\n")


def test_memory_stays_that_of_a_part(tmp_path: Path) -> None:
    import tracemalloc

    def peak(images: int) -> int:
        made = make_output(tmp_path / str(images), images=images, shard_size=64)
        pa.default_memory_pool().release_unused()
        tracemalloc.start()
        assert not any(check.count for check in verify(made.storage, made.record, 10, read=read_made))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(64)  # what is imported and cached counts no more
    assert peak(2_560) - peak(256) < 60 * (2_560 - 256)  # a URI alone takes 90 bytes


def test_a_part_encoded_again_verifies(made: MadeOutput) -> None:
    """`rewrite` itself does no damage: what the other tests find is what they did."""
    made.rewrite(1, lambda table: table)
    assert problems_of(made) == []
