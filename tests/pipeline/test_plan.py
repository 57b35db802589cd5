"""Plans: rows, shards, files, and what is on disk when planning ends, fails or is done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import plan as plan_module
from pipeline.errors import HublabelError, UsageError
from pipeline.plan import Plan, PlanFile, auto_shard_size, make_plan, write_plan
from transforms.plan_reader import read_shard


def write_list(folder: Path, count: int, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_text("".join(f"/photos/{number:07}.jpg\n" for number in range(count)))
    return path


def shards_of(plan: Plan, root: Path) -> list[pa.Table]:
    return [read_shard(str(root / file.name), shard) for file in plan.files for shard in range(file.shards)]


def rows_of(plan: Plan, root: Path) -> list[tuple[int, str]]:
    table = pa.concat_tables(shards_of(plan, root))
    return list(zip(table["row"].to_pylist(), table["uri"].to_pylist(), strict=True))


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize(
    ("rows", "batch_size", "size"),
    [
        (1, 32, 32),
        (6_400, 32, 32),
        (6_401, 32, 64),
        (6_401, 1, 33),
        (10, 1, 32),
        (10, 48, 48),
        (10, 100, 100),
        (10_000, 32, 64),
        (100_000, 32, 512),
        (204_800, 32, 1_024),
        (20_000_000, 32, 1_024),
        (20_000_000, 48, 1_056),
        (20_000_001, 32, 1_024),
        (20_480_001, 1, 1_025),
        (100_000_000, 32, 5_024),
        (327_680_000, 32, 16_384),
        (1_000_000_000, 32, 16_384),
    ],
)
def test_auto_shard_size(rows: int, batch_size: int, size: int) -> None:
    assert auto_shard_size(rows, batch_size) == size


def test_a_plan_of_a_folder_a_glob_a_list_and_a_file(tmp_path: Path) -> None:
    for name in ("photos/b.jpg", "photos/a.png", "photos/.c.jpg", "photos/d.txt", "photos/sub/e.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("photos/b.jpg\n\nhttps://example.com/x.jpg\n")
    paths = ["list.txt", "photos", "photos/*.jpg", "photos/a.png", "list.txt"]
    plan = make_plan([str(tmp_path / path) for path in paths], tmp_path / "out", batch_size=4)
    wanted = [
        f"{tmp_path}/photos/b.jpg",
        "https://example.com/x.jpg",
        f"{tmp_path}/photos/a.png",
        f"{tmp_path}/photos/b.jpg",
        f"{tmp_path}/photos/sub/e.tif",
        f"{tmp_path}/photos/b.jpg",
        f"{tmp_path}/photos/a.png",
        f"{tmp_path}/photos/b.jpg",
        "https://example.com/x.jpg",
    ]
    assert rows_of(plan, tmp_path / "out") == list(enumerate(wanted))
    assert plan.left_out == {"blank_line": 2, "hidden": 1, "unknown_suffix": 1}
    assert (plan.rows, plan.shards, plan.shard_size) == (9, 1, 32)
    assert tree(tmp_path / "out") == ["plan", "plan/plan-00000.parquet"]


def test_the_file_format(tmp_path: Path) -> None:
    plan = make_plan(str(write_list(tmp_path, 10)), tmp_path, batch_size=4, shard_size=4)
    file = pq.ParquetFile(tmp_path / "plan/plan-00000.parquet")
    assert file.schema_arrow == pa.schema(
        [pa.field("row", pa.int64(), nullable=False), pa.field("uri", pa.string(), nullable=False)]
    )
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [4, 4, 2]
    assert [group.column(1).compression for group in groups] == ["ZSTD"] * 3
    assert not any(group.column(column).is_stats_set for group in groups for column in (0, 1))
    size = (tmp_path / "plan/plan-00000.parquet").stat().st_size
    assert plan.files == (PlanFile("plan/plan-00000.parquet", shards=3, rows=10, shard_size=4, bytes=size),)
    assert [plan.files[0].shard_rows(index) for index in range(3)] == [4, 4, 2]
    with pytest.raises(IndexError, match=r"plan/plan-00000.parquet has shards 0 to 2, not 3"):
        plan.files[0].shard_rows(3)


@pytest.mark.parametrize(
    ("rows", "files"),
    [
        (1_999, [(1_000, 1_999)]),
        (2_000, [(1_000, 2_000)]),
        (2_001, [(1_000, 2_000), (1, 1)]),
        (4_000, [(1_000, 2_000), (1_000, 2_000)]),
    ],
)
def test_a_thousand_shards_a_file(tmp_path: Path, rows: int, files: list[tuple[int, int]]) -> None:
    plan = make_plan(str(write_list(tmp_path, rows)), tmp_path, batch_size=32, shard_size=2)
    assert [(file.shards, file.rows) for file in plan.files] == files
    assert [file.name for file in plan.files] == [f"plan/plan-{number:05}.parquet" for number in range(len(files))]
    for file in plan.files:
        metadata = pq.read_metadata(tmp_path / file.name)
        assert (metadata.num_row_groups, metadata.num_rows) == (file.shards, file.rows)
    assert rows_of(plan, tmp_path) == [(number, f"/photos/{number:07}.jpg") for number in range(rows)]


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (5, 5), (6, 6), (7, 7), (11, 11), (12, 12), (100, 12), (None, 12)])
def test_limit_keeps_the_first(tmp_path: Path, limit: int | None, kept: int) -> None:
    path = str(write_list(tmp_path, 6))
    plan = make_plan([path, path], tmp_path, batch_size=4, limit=limit)
    assert rows_of(plan, tmp_path) == [(row, f"/photos/{row % 6:07}.jpg") for row in range(kept)]


def test_what_matches_nothing_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "photos"
    empty.mkdir()
    (empty / "a.mov").touch()
    (empty / ".b.jpg").touch()
    (tmp_path / "list.txt").write_text("\n \n")
    images = str(write_list(tmp_path, 3, "images"))
    out = tmp_path / "out"
    for path, message in (
        ("photos", f"'{empty}' holds no image (left out: 1 hidden, 1 of other suffixes); input.path[1] takes a folder"),
        ("photos/*.jpg", f"'{empty}/*.jpg' matches no file; input.path[1] takes"),
        ("photos/no/*/x", f"'{empty}/no/*/x' matches no file; input.path[1] takes"),
        ("list.txt", f"'{tmp_path}/list.txt' holds no line (left out: 2 blank lines); input.path[1] takes"),
    ):
        with pytest.raises(UsageError) as error:
            make_plan([images, str(tmp_path / path)], out, batch_size=4)
        assert str(error.value).startswith(f"input.path[1]: {message}")
        assert tree(out) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "input.limit: 0 is not allowed"),
        ({"shard_size": 0}, "run.shard_size: 0 is not allowed"),
        ({"shard_size": "big"}, "run.shard_size: 'big' is not allowed; it is auto or at least 1"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(str(write_list(tmp_path, 1)), tmp_path / "out", batch_size=4, **arguments)
    assert not (tmp_path / "out").exists()


def test_an_unrecorded_plan_is_replaced(tmp_path: Path) -> None:
    make_plan(str(write_list(tmp_path, 2_500)), tmp_path, batch_size=1, shard_size=1)
    (tmp_path / "plan.partial").mkdir()
    (tmp_path / "plan.partial/spool.arrow").write_bytes(b"of a killed run")
    plan = make_plan(str(write_list(tmp_path, 3)), tmp_path, batch_size=1, shard_size=1)
    assert tree(tmp_path) == ["list.txt", "plan", "plan/plan-00000.parquet"]
    assert len(rows_of(plan, tmp_path)) == 3


def test_numbering_goes_on_when_rows_are_added(tmp_path: Path) -> None:
    first = make_plan(str(write_list(tmp_path, 3)), tmp_path, batch_size=1, shard_size=2)
    before = (tmp_path / first.files[0].name).stat()
    (tmp_path / "plan/plan-00007.parquet").write_bytes(b"never recorded")
    more = pa.record_batch({"uri": ["/x.jpg", "/y.jpg"], "caption": ["ex", None]})
    second = write_plan(
        iter([more]), tmp_path, batch_size=1, shard_size=2, left_out=Counter(), first_row=first.rows, first_file=1
    )
    assert [file.name for file in second.files] == ["plan/plan-00001.parquet"]
    assert tree(tmp_path / "plan") == ["plan-00000.parquet", "plan-00001.parquet"]
    after = (tmp_path / first.files[0].name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert read_shard(str(tmp_path / "plan/plan-00001.parquet"), 0).to_pydict() == {
        "row": [3, 4],
        "uri": ["/x.jpg", "/y.jpg"],
        "caption": ["ex", None],
    }


def test_progress_counts_up_and_may_end_the_planning(tmp_path: Path) -> None:
    path = str(write_list(tmp_path, 200_000))
    seen: list[int] = []
    make_plan(path, tmp_path / "out", batch_size=32, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == 200_000

    def stop(found: int) -> None:
        if found > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(path, tmp_path / "stopped", batch_size=32, progress=stop)
    assert tree(tmp_path / "stopped") == []


def test_a_disk_that_fails_leaves_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(plan_module, "_fsync", fsync)
    with pytest.raises(HublabelError, match=r"output\.path: the plan cannot be written to .*the disk is full"):
        make_plan(str(write_list(tmp_path, 3)), tmp_path / "out", batch_size=32)
    assert [name for name in tree(tmp_path / "out") if name.endswith(".parquet")] == []


def test_an_output_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    path = str(write_list(tmp_path, 3))
    with pytest.raises(HublabelError, match=r"output\.path: the plan cannot be written"):
        make_plan(path, path, batch_size=32)


def test_the_fingerprint_is_of_the_rows_alone(tmp_path: Path) -> None:
    path = str(write_list(tmp_path, 100_000))
    plans = [
        make_plan(path, tmp_path, batch_size=size, shard_size=shards) for size, shards in ((1, 7_000), (64, "auto"))
    ]
    plans.append(make_plan([path, path], tmp_path, batch_size=32, limit=100_000))
    assert len({plan.fingerprint for plan in plans}) == 1
    others = [make_plan(path, tmp_path, batch_size=1, limit=99_999)]
    for content in ("/a\n/b/c\n", "/a\n/b\n/c\n", "/a/b\n/c\n", "/b/c\n/a\n"):
        (tmp_path / "other.txt").write_text(content)
        others.append(make_plan(str(tmp_path / "other.txt"), tmp_path, batch_size=1))
    assert len({plan.fingerprint for plan in [plans[0], *others]}) == 6


def test_a_plan_survives_json(tmp_path: Path) -> None:
    plan = make_plan(str(write_list(tmp_path, 2_001)), tmp_path, batch_size=1, shard_size=2)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_importing_is_cheap() -> None:
    heavy = "{'pyarrow', 'numpy', 'apache_beam', 'tensorflow'}"
    code = f"import sys, pipeline.plan, transforms.plan_reader; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)),
    shard_size=st.integers(1, 9),
    limit=st.none() | st.integers(1, 12),
)
def test_shards_partition_the_lines(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], shard_size: int, limit: int | None
) -> None:
    root = tmp_path_factory.mktemp("plan")
    lines = ["/first.jpg"] + [f"/{name}" for name in names]
    (root / "list.txt").write_bytes("\n".join(lines).encode())
    if "\0" in "".join(lines):
        with pytest.raises(UsageError, match="neither text with one URI a line"):
            make_plan(str(root / "list.txt"), root, batch_size=1)
        return
    plan = make_plan(str(root / "list.txt"), root, batch_size=1, shard_size=shard_size, limit=limit)
    wanted = lines[:limit]
    assert rows_of(plan, root) == list(enumerate(wanted))
    sizes = [shard.num_rows for shard in shards_of(plan, root)]
    assert sizes == [plan.files[0].shard_rows(index) for index in range(plan.shards)]
    assert all(size == shard_size for size in sizes[:-1])
    assert (plan.rows, sum(sizes), plan.shards) == (len(wanted), len(wanted), len(sizes))
