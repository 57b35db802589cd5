"""How the model gets to workers elsewhere, and what they cannot reach."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.model_staging import model_place, worker_model
from pipeline.plan import Plan
from pipeline.reachable import check_reachable, check_uris
from pipeline.record import RunRecord, hash_files, hash_folder
from tests.object_store import BUCKET, ObjectStore
from transforms.model_source import local_model
from transforms.storage import open_storage

EXTERNAL = {"job_endpoint": "localhost:1", "environment_type": "EXTERNAL"}
ELSEWHERE = [
    ("PortableRunner", EXTERNAL),
    ("PortableRunner", {"job_endpoint": "localhost:1"}),
    ("FlinkRunner", {"flink_master": "localhost:8081"}),
    ("FlinkRunner", {"environment_type": "PROCESS"}),
    ("PrismRunner", EXTERNAL),
    ("DataflowRunner", {}),
    ("DataflowRunner", {"environment_type": "LOOPBACK"}),
]
HERE = [
    ("DirectRunner", {}),
    ("PortableRunner", {"job_endpoint": "localhost:1", "environment_type": "LOOPBACK"}),
    ("FlinkRunner", {}),
    ("FlinkRunner", {"flink_master": "[local]"}),
    ("FlinkRunner", {"flink_master": "localhost:8081", "environment_type": "LOOPBACK"}),
    ("PrismRunner", {}),
]


def config_of(name: str, options: dict[str, Any], output: str = "gs://b/out", **model: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "input": {"path": "list.txt"},
            "model": {"handle": "model/", **model},
            "output": {"path": output},
            "runner": {"name": name, "options": options},
        }
    )


def record_of(model: Path) -> RunRecord:
    plan = Plan(1, 1, 1, (), "", {})
    return RunRecord("out", {}, str(model), {"model files": hash_folder(str(model))}, plan, {})


@pytest.mark.parametrize(("name", "options"), HERE)
def test_workers_in_this_process_need_nothing(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options, output="out/")
    assert model_place(config) == "here"
    check_reachable(config)


@pytest.mark.parametrize(("name", "options"), ELSEWHERE)
@pytest.mark.parametrize(
    "handle", ["models/mine", "https://tfhub.dev/a/b/1", "kaggle://a/b/c/d/1", "/m/mine.tar.gz", "gs://b/mine.tgz"]
)
def test_a_model_of_this_machine_needs_staging(name: str, options: dict[str, Any], handle: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_reachable(config_of(name, options, handle=handle))
    assert str(caught.value) == (
        f"model.handle: {handle} is not where the workers of {name} are; set model.staging to a gs:// or s3:// folder, "
        "or to a path on a disk that launcher and workers share: the model is put there once"
    )
    assert model_place(config_of(name, options, handle=handle, staging="gs://b/models")) == "staging"


@pytest.mark.parametrize(("name", "options"), ELSEWHERE)
def test_a_model_that_they_can_reach(name: str, options: dict[str, Any]) -> None:
    assert model_place(config_of(name, options, handle="gs://b/mine")) == "store"
    assert model_place(config_of(name, options, handle="s3://b/mine/")) == "store"
    if name != "DataflowRunner":
        assert model_place(config_of(name, options, handle="/shared/mine")) == "path"
        assert model_place(config_of(name, options, handle="file:///shared/mine")) == "path"


def test_dataflow_reaches_no_disk_of_ours() -> None:
    with pytest.raises(UsageError, match=r"model.staging: /shared is not where Dataflow's workers are; use gs://"):
        model_place(config_of("DataflowRunner", {}, staging="/shared"))
    with pytest.raises(UsageError, match=r"model.handle: /m is not where the workers of DataflowRunner are; set "):
        model_place(config_of("DataflowRunner", {}, handle="/m"))
    image = {"sdk_container_image": "europe-docker.pkg.dev/p/r/worker:1"}
    assert model_place(config_of("DataflowRunner", image, handle="/m")) == "path"  # in the image
    with pytest.raises(
        UsageError, match=r"output.path: out/ is on this machine, and Dataflow's workers are not; it must"
    ):
        check_reachable(config_of("DataflowRunner", {}, output="out/"))


@pytest.mark.parametrize(
    ("name", "options", "uri", "said"),
    [
        ("PortableRunner", EXTERNAL, "photos/a.jpg", "is relative, and workers work elsewhere; it must be a URI or an"),
        ("DataflowRunner", {}, "photos/a.jpg", "is on this machine, and Dataflow's workers are not; it must be gs://"),
        ("DataflowRunner", {}, "/photos/a.jpg", "is on this machine, and Dataflow's workers are not; it must be gs://"),
        ("DataflowRunner", {}, "file:///a.jpg", "is on this machine, and Dataflow's workers are not; it must be gs://"),
    ],
)
def test_images_that_workers_cannot_reach(name: str, options: dict[str, Any], uri: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"input.path: {uri} {said}")):
        check_uris(config_of(name, options), ["gs://b/a.jpg", uri])


def test_images_that_workers_can_reach() -> None:
    check_uris(config_of("PortableRunner", EXTERNAL), ["/photos/a.jpg", "file:///a.jpg", "https://h/a.jpg", "s3://b/a"])
    check_uris(config_of("DataflowRunner", {}), ["gs://b/a.jpg", "https://h/a.jpg", "s3://b/a"])


def test_workers_are_told_the_whole_path_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour_model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    record = record_of(colour_model)
    for staging in ("models", f"file://{tmp_path}/models"):
        source = worker_model(config_of("FlinkRunner", EXTERNAL, staging=staging), record, str)
        assert source is not None
        assert source.uri == f"{tmp_path}/models/{record.model_fingerprint}"
        assert local_model(source) == source.uri


def puts(store: ObjectStore) -> list[str]:
    return [request for request in store.requests if request.startswith("PUT ")]


def test_a_model_is_put_there_once(object_store: ObjectStore, colour_model: Path) -> None:
    staging = f"s3://{BUCKET}/{uuid.uuid4().hex}/models/"
    config, record = config_of("PortableRunner", EXTERNAL, staging=staging), record_of(colour_model)
    said: list[str] = []
    object_store.well()
    source = worker_model(config, record, said.append)
    assert source is not None
    assert source.uri == staging + record.model_fingerprint
    assert dict(source.files) == dict(hash_files(str(colour_model)))
    assert said == [f"putting the model where the workers find it: {source.uri}"]
    assert len(puts(object_store)) == len(source.files) > 1
    storage = open_storage(source.uri)
    assert all(storage.read(name) == (colour_model / name).read_bytes() for name, _ in source.files)
    # Again, and after one file has gone.
    object_store.well()
    assert worker_model(config, record, said.append) == source
    assert puts(object_store) == []
    storage.delete("saved_model.pb")
    object_store.well()
    assert worker_model(config, record, said.append) == source
    assert [request.partition("?")[0].rpartition("/")[2] for request in puts(object_store)] == ["saved_model.pb"]


def test_puts_are_conditional(object_store: ObjectStore, colour_model: Path) -> None:
    headers: list[dict[str, str]] = []

    def note(method: str, path: str, given: dict[str, str]) -> None:
        if method == "PUT":
            headers.append(given)

    object_store.refuse = note  # type: ignore[assignment]
    config = config_of("PortableRunner", EXTERNAL, staging=f"s3://{BUCKET}/{uuid.uuid4().hex}")
    worker_model(config, record_of(colour_model), print)
    assert headers
    assert all(given["if-none-match"] == "*" for given in headers)


def test_staging_on_a_shared_disk(colour_model: Path, tmp_path: Path) -> None:
    config = config_of("PortableRunner", EXTERNAL, staging=str(tmp_path / "models"))
    source = worker_model(config, record_of(colour_model), print)
    assert source is not None
    assert local_model(source) == source.uri == f"{tmp_path}/models/{hash_folder(str(colour_model))}"


def test_staging_that_cannot_be_written(object_store: ObjectStore, colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for staging in (f"{tmp_path}/file", "s3://no-such-bucket/models", "ftp://host/models"):
        config = config_of("PortableRunner", EXTERNAL, staging=staging)
        with pytest.raises(UsageError, match=rf"^model.staging: {staging}/\w{{64}} cannot be written to: "):
            worker_model(config, record_of(colour_model), print)


def test_a_shared_path_and_a_folder_in_a_store_are_read_where_they_are(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("PortableRunner", EXTERNAL, handle=str(colour_model))
    source = worker_model(config, record_of(colour_model), print)
    assert source is not None
    assert source.uri == str(colour_model)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    (tmp_path / "digest" / "7").mkdir(parents=True)
    (tmp_path / "digest" / "7" / "saved_model.pb").write_bytes(b"graph")
    config = config_of("PortableRunner", EXTERNAL, handle="gs://b/mine/")
    for model, uri in (("digest", "gs://b/mine"), ("digest/7", "gs://b/mine/7")):
        source = worker_model(config, record_of(tmp_path / model), print)
        assert source is not None
        assert source.uri == uri
