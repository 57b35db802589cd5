"""The flex template's launcher, with Google Cloud Storage on loopback and no Dataflow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.flex_template import PARAMETERS, main
from pipeline.job_record import JobRecord, load_job, save_job
from tests.object_store import BUCKET
from tests.pipeline.remote.services import ROOT
from transforms.storage import ObjectStorage, open_object_storage

METADATA = json.loads((ROOT / "deploy" / "flex_template.json").read_text())


def test_the_metadata_has_every_parameter() -> None:
    found = {parameter["name"]: not parameter["isOptional"] for parameter in METADATA["parameters"]}
    assert found == {name: required for name, (_, required) in PARAMETERS.items()}
    for parameter in METADATA["parameters"]:
        assert parameter["label"]
        assert parameter["helpText"].endswith((".", "}"))
        assert parameter["paramType"] == "TEXT"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "config",
            ["gs://b/run.yaml", "/opt/hublabel/configs/dataflow.yaml", "gs://b/f/x.yml"],
            ["run.yaml", "gs://b"],
        ),
        ("input", ["gs://b/photos/", "s3://b/list.txt"], ["photos/", "/photos"]),
        ("output", ["gs://b/out"], ["out/"]),
        ("staging", ["gs://b/models"], ["/models"]),
        ("overrides", ['{"batch.size": 64}', "{}"], ["batch.size=64"]),
    ],
)
def test_what_dataflow_checks_of_a_parameter(name: str, good: list[str], bad: list[str]) -> None:
    (regex,) = next(parameter["regexes"] for parameter in METADATA["parameters"] if parameter["name"] == name)
    assert all(re.fullmatch(regex, value) for value in good)
    assert not any(re.fullmatch(regex, value) for value in bad)


@pytest.fixture
def bucket(google_store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStorage:
    """A folder of its own in a bucket, with a list of ten URIs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage = open_object_storage(f"gs://{BUCKET}/{uuid.uuid4().hex}")
    storage.replace("list.txt", "".join(f"{storage.root}/{number}.png\n" for number in range(10)).encode())
    return storage


@pytest.fixture
def configs(tmp_path: Path, bucket: ObjectStorage, colour_config: Path, colour_labels: Path) -> Path:
    """The folder of the configs in the image, with labels; the run's own config is in the bucket."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "labels.txt").write_text(colour_labels.read_text())
    text = colour_config.read_text().replace(str(colour_labels), "labels.txt")
    bucket.replace("run.yaml", text.encode())
    return folder


def made(bucket: ObjectStorage, configs: Path, folder: Path, *arguments: str) -> int:
    """The exit code of the launcher, as Dataflow starts it, but that what goes to the cloud goes to `folder`."""
    (folder / "staging").mkdir(parents=True, exist_ok=True)
    places = [f"--{name}_location={folder}/{name}" for name in ("staging", "temp")]
    return main(
        [
            f"--config={bucket.root}/run.yaml", f"--input={bucket.root}/list.txt", f"--output={bucket.root}/out",
            f"--staging={bucket.root}/models", "--runner=DataflowRunner", "--project=a-project",
            "--region=europe-west4", "--job_name=nightly", "--sdk_container_image=registry/worker:1", "--no_auth",
            f"--template_location={folder}/job.json", "--dataflow_endpoint=http://localhost:1", *places, *arguments,
        ],
        configs,
    )  # fmt: skip


def test_a_job_from_the_parameters(bucket: ObjectStorage, configs: Path, tmp_path: Path) -> None:
    overrides = '--overrides={"batch.size": 3, "run.shard_size": 3, "output.top_k": 1}'
    assert made(bucket, configs, tmp_path / "made", "--number_of_worker_harness_threads=2", overrides) == 0
    job = json.loads((tmp_path / "made" / "job.json").read_text())
    assert job["name"] == "nightly"
    (pool,) = job["environment"]["workerPools"]
    assert (pool["workerHarnessContainerImage"], pool["numThreadsPerWorker"]) == ("registry/worker:1", 2)
    graph = (tmp_path / "made" / "staging" / "pipeline.pb").read_bytes()
    assert "WriteShards/Write" in {
        transform.unique_name
        for transform in beam_runner_api_pb2.Pipeline.FromString(graph).components.transforms.values()
    }
    output = open_object_storage(f"{bucket.root}/out")
    assert output.exists("plan/plan-00000.parquet")
    record = output.read("run.yaml").decode()
    assert "top_k: 1" in record
    assert "shards: 4" in record
    assert len(list(bucket.list("models"))) == 1
    known = load_job(output)
    assert known is not None
    assert (known.runner, known.at, known.name, known.id, known.state) == (
        "DataflowRunner", "a-project/europe-west4", "nightly", None, None,
    )  # fmt: skip


def test_a_run_whose_job_may_go_on_gets_no_second(
    bucket: ObjectStorage, configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output = open_object_storage(f"{bucket.root}/out")
    save_job(output, JobRecord("DataflowRunner", "a-project/europe-west4", "nightly-1"))
    active = {"nightly-1"}
    monkeypatch.setattr("pipeline.runners.find_job", lambda runner, options, name, job_id: name in active or None)
    assert made(bucket, configs, tmp_path / "made") == 2
    assert "job nightly-1 (DataflowRunner at a-project/europe-west4) may still go on" in capsys.readouterr().err
    active.clear()
    assert made(bucket, configs, tmp_path / "made") == 0


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--overrides=batch.size=3", "overrides: 'batch.size=3' is not a JSON object of keys and values"),
        ("--overrides=[1]", "overrides: '[1]' is not a JSON object of keys and values"),
        ('--overrides={"batch.sise": 3}', "--set batch.sise=3: batch.sise: unknown key; did you mean batch.size?"),
        ("--config=gs://b/nowhere.yaml", "config: gs://b/nowhere.yaml cannot be read: gs://b/nowhere.yaml: no such"),
        ("--output=out/", "output.path: out/ is on this machine, and Dataflow's workers are not"),
    ],
)
def test_parameters_that_are_refused(
    bucket: ObjectStorage, configs: Path, tmp_path: Path, argument: str, said: str, capsys: Any
) -> None:
    assert made(bucket, configs, tmp_path / "made", argument) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made" / "job.json").exists()


def test_the_script_that_dataflow_starts(tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "deploy" / "flex_template.py", f"--config={tmp_path}/nowhere.yaml"]
    ended = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert (
        ended.stderr.splitlines()[-1]
        == f"hublabel: {tmp_path}/nowhere.yaml: the config cannot be read: No such file or directory"
    )
