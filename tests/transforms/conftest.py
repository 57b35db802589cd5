"""Buckets of both kinds of object stores, and garbage collection."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.object_store import BUCKET, ObjectStore
from transforms.storage import ObjectStorage
from transforms.storage_gcs import GoogleStorage
from transforms.storage_s3 import S3Storage


class Bucket(NamedTuple):
    """A folder of its own in a bucket, and the server that has it."""

    storage: ObjectStorage
    server: ObjectStore


def folder() -> str:
    return f"{BUCKET}/{uuid.uuid4().hex}/out"


@pytest.fixture
def s3(object_store: ObjectStore) -> Bucket:
    return Bucket(S3Storage(f"s3://{folder()}"), object_store)


@pytest.fixture
def google(google_store: ObjectStore) -> Bucket:
    return Bucket(GoogleStorage(f"gs://{folder()}"), google_store)


@pytest.fixture(params=["s3", "google"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return request.getfixturevalue(request.param)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither we nor the client wait before asking again."""
    monkeypatch.setattr(time, "sleep", lambda *_: None)


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """Garbage collections look at what the module's tests make, and not each time at all of TensorFlow (0.4 s)."""
    import tensorflow  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
