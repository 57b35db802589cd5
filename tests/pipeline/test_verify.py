import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli
from pipeline.plan import write_plan
from pipeline.record import save_record
from pipeline.verify import verify
from pipeline.verify_parts import AGAIN
from tests.outputs import MadeOutput, data_of, make_output
from transforms.errors import ImageError
from transforms.parts import part_name
from transforms.records import Shard


@pytest.fixture
def made(tmp_path: Path) -> MadeOutput:
    return make_output(tmp_path / "out")


def problems_of(made: MadeOutput) -> list[str]:
    return [f"{check.what}: {problem}" for check in verify(made.storage, made.record) for problem in check.problems]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["verify", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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


# Parts.


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def test_every_truncation_of_a_part_is_noticed(made: MadeOutput) -> None:
    data = made.part(1).read_bytes()
    for size in (0, 3, len(data) // 2, len(data) - 1):
        made.part(1).write_bytes(data[:size])
        found = problems_of(made)
        assert len(found) == 1
        assert found[0].startswith("parts: predictions/00000/part-00001.parquet: not a readable Parquet file")


def test_a_flipped_bit_in_a_part_is_noticed_or_changes_nothing(made: MadeOutput) -> None:
    """The footer stays sound: only reading the rows finds it. Nobody reads the statistics in a page's header."""
    whole = made.part(1).read_bytes()
    rows = pq.read_table(made.part(1), partitioning=None).to_pylist()
    end_of_pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = 0
    for offset in range(30, end_of_pages, 97):
        flip(made.part(1), offset)
        if problems_of(made):
            noticed += 1
        else:
            assert pq.read_table(made.part(1), partitioning=None).to_pylist() == rows
        made.part(1).write_bytes(whole)
    assert noticed > 10
    assert problems_of(made) == []


def test_a_part_under_another_shards_name(made: MadeOutput) -> None:
    shutil.copy(made.part(0), made.part(1))
    assert problems_of(made) == [f"parts: predictions/00000/part-00001.parquet: it holds another shard's rows; {AGAIN}"]


def test_a_parquet_file_that_is_not_ours(made: MadeOutput) -> None:
    pq.write_table(pa.table({"row": [4, 5, 6, 7]}), made.part(1))
    assert problems_of(made) == [
        f"parts: predictions/00000/part-00001.parquet: not written by hublabel: its footer lacks our metadata; {AGAIN}"
    ]


def column(name: str, change: Callable[[list], list]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        values = pa.array(change(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, values)

    return changed


DAMAGES: dict[str, tuple[Callable[[pa.Table], pa.Table], list[str]]] = {
    "a row is missing": (
        lambda table: table.slice(1),
        ["missing: row 4", "it has 3 rows, and its shard 4"],
    ),
    "a row is double": (
        lambda table: pa.concat_tables([table, table.slice(3)]),
        ["there more than once: row 7", "it has 5 rows, and its shard 4"],
    ),
    "a row stands for another": (
        column("row", lambda _: [4, 5, 5, 7]),
        ["missing: row 6", "there more than once: row 5"],
    ),
    "a row of another shard": (
        column("row", lambda _: [4, 5, 6, 9]),
        ["missing: row 7", "not of this shard: row 9"],
    ),
    "another order": (lambda table: table.take([1, 0, 2, 3]), ["its rows are not in the plan's order"]),
    "another uri": (column("uri", lambda uris: ["x", *uris[1:]]), ["uri is not the plan's: row 4"]),
    "labels of neighbours": (
        column("uri", lambda uris: [uris[1], uris[0], *uris[2:]]),
        ["uri is not the plan's: 2 rows, the first of them 4"],
    ),
    "ok without a sha256": (column("sha256", lambda texts: [None, *texts[1:]]), ["ok, but without sha256: row 4"]),
    "ok without a label": (column("label_index", lambda old: [*old[:3], None]), ["ok, but without label_index: row 7"]),
    "a score of NaN": (
        column("score", lambda old: [*old[:3], float("nan")]),
        ["ok, but with a score that is no number: row 7"],
    ),
    "ok with an error": (column("error_type", lambda old: [*old[:3], "x"]), ["ok, but with error_type: row 7"]),
    "an unknown status": (
        column("status", lambda old: ["done", *old[1:]]),
        ["1 rows have a status other than ok and failed"],
    ),
    "failed without a reason": (
        column("status", lambda old: ["failed", *old[1:]]),
        [
            *(f"failed, but without {name}: row 4" for name in ("error_stage", "error_type", "error_message")),
            *(f"failed, but with {name}: row 4" for name in ("label_index", "score", "top_k")),
        ],
    ),
    "a column is missing": (
        lambda table: table.drop_columns(["sha256"]),
        ["it lacks the column sha256", "its columns are not those of predictions/00000/part-00000.parquet"],
    ),
    "a column too many": (
        lambda table: table.append_column("extra", table["row"]),
        ["its columns are not those of predictions/00000/part-00000.parquet"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows(made: MadeOutput, damage: str) -> None:
    change, expected = DAMAGES[damage]
    table_rows = {"a row is missing": 3, "a row is double": 5}.get(damage, 4)
    failed = 1 if damage == "failed without a reason" else 0
    made.rewrite(1, change, rows=table_rows, failed=failed)
    found = [problem.partition("part-00001.parquet: ")[2] for problem in problems_of(made)]
    assert sorted(found) == sorted(expected)


def test_a_footer_that_is_not_of_this_run(made: MadeOutput) -> None:
    for footer, problem in (
        ({"plan": "other"}, "it belongs to another plan"),
        ({"run": "other"}, "it was made with other settings (model, preprocessing, labels or libraries)"),
        ({"failed": 2}, "0 rows have failed, and its footer says 2"),
    ):
        made.rewrite(1, lambda table: table, **footer)
        assert problems_of(made) == [f"rows: predictions/00000/part-00001.parquet: {problem}"]
    made.rewrite(1, lambda table: table, rows=9)
    assert problems_of(made) == [
        f"parts: predictions/00000/part-00001.parquet: 4 rows where its footer says 9; {AGAIN}"
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


# Images.


def read_made(uri: str, max_bytes: int) -> bytes:
    assert max_bytes == 64 * 1024 * 1024
    return data_of(int(uri.partition("host/")[2].partition(".")[0]))


def image_problems(made: MadeOutput, read: Callable[[str, int], bytes], images: int = 5, seed: int = 0) -> list[str]:
    check = verify(made.storage, made.record, images, seed, read)[-1]
    assert check.what == "images"
    return check.problems


def test_a_sample_of_images_is_compared(made: MadeOutput) -> None:
    read: list[str] = []

    def noting(uri: str, max_bytes: int) -> bytes:
        read.append(uri)
        return read_made(uri, max_bytes)

    assert image_problems(made, noting, 100) == []
    failed = "https://user:pw@host/3.png?sig=3"
    assert sorted(read) == [f"https://user:pw@host/{n}.png?sig={n}" for n in range(10) if n != 3]
    assert failed not in read
    samples = []
    for seed in (0, 0, 1, 2):
        read.clear()
        assert image_problems(made, noting, 3, seed) == []
        assert len(set(read)) == 3
        samples.append(tuple(sorted(read)))
    assert samples[0] == samples[1]
    assert len(set(samples)) > 1


def test_changed_and_missing_images_are_told_without_credentials(made: MadeOutput) -> None:
    def read(uri: str, max_bytes: int) -> bytes:
        data = read_made(uri, max_bytes)
        if "/0.png" in uri:
            return data + b"x"
        if "/1.png" in uri:
            return data[:-1] + b"x"
        if "/2.png" in uri:
            raise ImageError("read", "not_found", "no such file")
        return data

    assert image_problems(made, read, 100) == [
        "row 0, https://***@host/0.png?sig=***: it has 8 bytes, and had 7 when it was labelled",
        "row 1, https://***@host/1.png?sig=***: its bytes are not those that were labelled (sha256)",
        "row 2, https://***@host/2.png?sig=***: it cannot be read any more: no such file",
    ]


def test_the_sample_is_even(tmp_path: Path) -> None:
    made = make_output(tmp_path / "out", images=30, shard_size=2)
    read: Counter[str] = Counter()

    def noting(uri: str, max_bytes: int) -> bytes:
        read[uri] += 1
        return read_made(uri, max_bytes)

    for seed in range(40):
        image_problems(made, noting, 9, seed)
    assert len(read) == 26  # of 30, 4 failed
    assert max(read.values()) < 30  # 40 * 9 / 26 is 14 each


def test_the_command_reads_images_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_output(tmp_path / "out")
    code, out, _ = said(capsys, str(made.path), "--images", "2", "--seed", "7")
    assert code == 1  # https:// cannot be read, or there is no such host
    assert "2 read again (seed 7)" in out
    assert "pw@" not in out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["verify", str(made.path), "--images", "-1"])


def test_stripped_uris_are_compared_with_the_plans(tmp_path: Path) -> None:
    made = make_output(tmp_path / "out", uri="stripped")
    assert problems_of(made) == []
    made.rewrite(1, column("uri", lambda uris: [f"{uri}?sig=1" for uri in uris]))
    assert problems_of(made) == [
        "rows: predictions/00000/part-00001.parquet: uri is not the plan's: 4 rows, the first of them 4"
    ]


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


def test_carried_columns_and_what_is_read_for_a_row(made: MadeOutput) -> None:
    """Columns of the input are compared with the plan's, NaN is NaN; what only reading needs is in the plan alone."""
    uris = [f"https://user:pw@host/{number}.png?sig={number}" for number in range(10)]
    columns = {
        "uri": pa.array(uris),
        "angle": pa.array([float("nan"), *map(float, range(9))]),
        "_hublabel_source": pa.array([None] * 9 + ["https://mirror/9.png"]),
        "_hublabel_error": pa.array([None] * 10, pa.string()),
    }
    write_plan(iter([pa.record_batch(columns)]), made.path, batch_size=2, shard_size=4, left_out=Counter())
    found = [problem for problem in problems_of(made) if "lacks the column angle" in problem]
    assert len(found) == 3
    for index, angles in enumerate([[float("nan"), 0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0, 9.0]]):
        made.rewrite(index, lambda table, angles=angles: table.add_column(2, "angle", pa.array(angles)))
    assert problems_of(made) == ["rows: predictions/00000/part-00002.parquet: angle is not the plan's: row 9"]
    made.rewrite(2, column("angle", lambda _: [7.0, 8.0]))
    read: list[str] = []

    def noting(uri: str, max_bytes: int) -> bytes:
        read.append(uri)
        return data_of(9) if "mirror" in uri else read_made(uri, max_bytes)

    assert image_problems(made, noting, 100) == []
    assert "https://mirror/9.png" in read
    assert len(read) == 9
