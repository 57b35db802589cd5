"""What a run asks of an object store: docs/scale.md multiplies these figures."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from pipeline import cli
from tests.object_store import BUCKET, ObjectStore
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.running import in_process
from tests.pipeline.test_run_remote import ChildWithoutLock

# For each shard: is its part there; mark the attempt; is the plan the one that is open; commit the part; take the mark
# back. Its rows of the plan are one GET more where the plan file is larger than the 64 KB that opening it brings.
A_SHARD = {"HEAD part": 1, "PUT mark": 1, "HEAD plan": 1, "PUT part": 1, "DELETE mark": 1}
READ_BACK = 2  # at most: the launcher reads a part's footer (progress, budget), and its labels (report)


KINDS = {"list-type=2": "list", "/predictions/": "part", "/attempts/": "mark", "/plan/": "plan"}


def kinds(requests: list[str]) -> Counter[str]:
    """How many requests of each kind there were."""
    found: Counter[str] = Counter()
    for request in requests:
        method, path = request.split(" ", 1)
        found[f"{method} {next((name for part, name in KINDS.items() if part in path), 'other')}"] += 1
    return found


def asked(store: ObjectStore, config: Path, shards: int) -> Counter[str]:
    """The requests of a run of so many shards of four."""
    for number in range(4 * shards):
        (config.parent / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    store.well()
    output = f"s3://{BUCKET}/{uuid.uuid4().hex}/out"
    assert cli.main(["run", str(config), "--set", f"output.path={output}", "--set", "report.html=false"]) == 0
    return kinds(store.requests)


def test_what_one_more_shard_asks_for(
    object_store: ObjectStore, colour_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_process(monkeypatch)
    monkeypatch.setattr("pipeline.children.Child", ChildWithoutLock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    few, many = asked(object_store, colour_config, 5), asked(object_store, colour_config, 25)
    more = {kind: (many[kind] - few[kind]) / 20 for kind in many}
    assert {kind: more[kind] for kind in A_SHARD} == A_SHARD
    assert 1 <= more["GET part"] <= READ_BACK
    further = more.keys() - A_SHARD.keys() - {"GET part"}
    assert all(abs(more[kind]) < 0.2 for kind in further)  # listings and the lease: by the clock, not by the shard
