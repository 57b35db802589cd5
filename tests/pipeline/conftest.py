"""The command in the tests' own process, ready to label ten pictures."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from tests.pipeline.lake import Lake
from tests.pipeline.running import ChildInProcess, Hublabel, in_process


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> type[ChildInProcess]:
    """Runs have their child in this process; counts them."""
    return in_process(monkeypatch)


@pytest.fixture
def hublabel(
    colour_config: Path,
    picture_folder: Path,
    tmp_path: Path,
    children: type[ChildInProcess],
    capsys: pytest.CaptureFixture[str],
) -> Hublabel:
    """Ten pictures, shards of four, batches of two."""
    return Hublabel(colour_config, tmp_path / "out", capsys)


@pytest.fixture(params=["object_store", "google_store"])
def lake(request: pytest.FixtureRequest) -> Lake:
    """A folder of its own in a bucket of each kind of object store."""
    return Lake(request.getfixturevalue(request.param), uuid.uuid4().hex)


@pytest.fixture
def s3_lake(object_store: ObjectStore) -> Lake:
    """A folder of its own in a bucket of S3."""
    return Lake(object_store, uuid.uuid4().hex)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither we nor the clients wait before asking again."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
