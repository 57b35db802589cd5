from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.extend import extend_plan
from pipeline.plan import Plan, make_plan


def uris(root: Path, plan: Plan) -> list[tuple[int, str]]:
    found = []
    for file in plan.files:
        table = pq.read_table(root / file.name)
        found += zip(table["row"].to_pylist(), (Path(uri).name for uri in table["uri"].to_pylist()), strict=True)
    return found


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_only_new_images_are_added_behind_the_old_ones(tmp_path: Path) -> None:
    photos, root = tmp_path / "photos", tmp_path / "out"
    touch(photos, "b.jpg", "d.jpg", "f.jpg")
    plan = make_plan(str(photos), root, batch_size=1, shard_size=2)
    before = {file.name: (root / file.name).read_bytes() for file in plan.files}
    assert extend_plan(plan, str(photos), root, batch_size=1, shard_size=2) is plan
    touch(photos, "a.jpg", "c.jpg", "e.png")
    (photos / "f.jpg").unlink()
    longer = extend_plan(plan, str(photos), root, batch_size=1, shard_size=2)
    assert uris(root, longer) == [(0, "b.jpg"), (1, "d.jpg"), (2, "f.jpg"), (3, "a.jpg"), (4, "c.jpg"), (5, "e.png")]
    assert (longer.rows, longer.shards, len(longer.files)) == (6, 4, 2)
    assert longer.files[0] == plan.files[0]
    assert longer.fingerprint == plan.fingerprint
    assert {name: (root / name).read_bytes() for name in before} == before
    touch(photos, "z.webp")
    longest = extend_plan(longer, str(photos), root, batch_size=1, shard_size=2)
    assert uris(root, longest)[6:] == [(6, "z.webp")]


def test_an_extension_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    photos, root = tmp_path / "photos", tmp_path / "out"
    touch(photos, "a.jpg")
    plan = make_plan(str(photos), root, batch_size=1)
    touch(photos, "b.jpg")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend_plan(plan, str(photos), root, batch_size=1, progress=stop)
    assert uris(root, plan) == [(0, "a.jpg")]
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["plan-00000.parquet"]
