"""The job for Dataflow, as it would be sent there: no account, no network."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.gcsfilesystem import GCSFileSystem
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline import cli, dataflow_template
from pipeline.config import load_config
from tests.pipeline.remote.services import ROOT

IMAGE = "europe-west4-docker.pkg.dev/your-project/hublabel"
ONE_PROCESS = "no_use_multiple_sdk_containers"


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with what the shipped configs give, made by the command."""
    folder = tmp_path_factory.mktemp("dataflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))  # no credentials, whoever runs this
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        patch.chdir(folder)
        for name in ("dataflow", "dataflow_gpu"):
            overrides = [f"model.handle={ROOT}/models/efficientnet-lite0"] if name == "dataflow" else []
            overrides.append(f"runner.options.setup_file={ROOT}/setup.py")
            arguments = [part for override in overrides for part in ("--set", override)]
            assert cli.main(["run", f"{ROOT}/configs/{name}.yaml", "--dry-run", *arguments]) == 0
    return {name: folder / "out" / f"{name}-dry-run" for name in ("dataflow", "dataflow_gpu")}


def job_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "template.json").read_text())


def test_the_workers_of_dataflow_yaml(templates: dict[str, Path]) -> None:
    job = job_of(templates["dataflow"])
    assert (job["name"], job["type"]) == ("hublabel", "JOB_TYPE_BATCH")
    (pool,) = job["environment"]["workerPools"]
    assert pool["machineType"] == "n2-standard-8"
    assert pool["autoscalingSettings"] == {"maxNumWorkers": 20}
    assert pool["diskSizeGb"] == 50
    assert pool["numThreadsPerWorker"] == 4
    assert pool["workerHarnessContainerImage"] == f"{IMAGE}/worker:0.1.0"
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [f"{IMAGE}/worker:0.1.0"]
    assert ONE_PROCESS in job["environment"]["experiments"]
    assert "use_multiple_sdk_containers" not in job["environment"]["experiments"]
    assert "serviceOptions" not in job["environment"]


def test_the_workers_of_dataflow_gpu_yaml(templates: dict[str, Path]) -> None:
    job = job_of(templates["dataflow_gpu"])
    (pool,) = job["environment"]["workerPools"]
    assert pool["machineType"] == "g2-standard-8"
    assert pool["autoscalingSettings"] == {"maxNumWorkers": 8}
    assert pool["numThreadsPerWorker"] == 4
    assert pool["workerHarnessContainerImage"] == f"{IMAGE}/worker-gpu:0.1.0"
    assert job["environment"]["serviceOptions"] == ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"]
    assert ONE_PROCESS in job["environment"]["experiments"]


@pytest.mark.parametrize("name", ["dataflow", "dataflow_gpu"])
def test_the_source_package_has_both_packages_whole(templates: dict[str, Path], name: str) -> None:
    job = job_of(templates[name])
    package = templates[name] / "staging" / "workflow.tar.gz"
    (pool,) = job["environment"]["workerPools"]
    assert pool["packages"] == [{"name": "workflow.tar.gz", "location": str(package)}]
    with tarfile.open(package) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    for folder in ("pipeline", "transforms"):
        source = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {path.as_posix() for path in source if "__pycache__" not in path.parts} <= files
    assert "setup.py" in files
    assert not [file for file in files if file.startswith(("tests/", "out/", "models/"))]


@pytest.mark.parametrize("name", ["dataflow", "dataflow_gpu"])
def test_from_decoding_to_writing_is_one_straight_line_in_one_environment(
    templates: dict[str, Path], name: str
) -> None:
    proto = beam_runner_api_pb2.Pipeline.FromString((templates[name] / "staging" / "pipeline.pb").read_bytes())
    transforms = proto.components.transforms
    by_name = {transform.unique_name: transform for transform in transforms.values()}
    leaves = [transform for transform in transforms.values() if not transform.subtransforms]
    reached, line = next(iter(by_name["Spread"].outputs.values())), []
    while consumers := [leaf for leaf in leaves if reached in leaf.inputs.values()]:
        (consumer,) = consumers
        line.append(consumer)
        (reached,) = consumer.outputs.values()
    assert [step.unique_name for step in line] == [
        "DecodeImages/Decode", "ClassifyImages/Classify", "WriteShards/Write",
    ]  # fmt: skip
    for step in line:
        assert step.spec.urn == "beam:transform:pardo:v1"
        assert not beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload).side_inputs
        assert len(step.inputs) == len(step.outputs) == 1
    (environment,) = {step.environment_id for step in line}
    # It is the only one there is, but for what Beam's own expansion of Create runs in.
    docker = proto.components.environments[environment]
    payload = beam_runner_api_pb2.DockerPayload.FromString(docker.payload)
    assert payload.container_image.startswith(f"{IMAGE}/worker")
    assert not docker.resource_hints
    urns = [transform.spec.urn for transform in transforms.values()]
    assert "beam:transform:flatten:v1" not in urns
    assert urns.count("beam:transform:group_by_key:v1") <= urns.count("beam:transform:reshuffle:v1") == 1


def test_beam_reads_gs_with_the_gcp_extra() -> None:
    assert FileSystems.get_filesystem("gs://bucket/object") is not None
    assert isinstance(FileSystems.get_filesystem("gs://bucket/object"), GCSFileSystem)
    assert FileSystems.split("gs://bucket/folder/object") == ("gs://bucket/folder", "object")


def refused(capsys: pytest.CaptureFixture[str], *overrides: str, config: str = "dataflow") -> str:
    arguments = [part for override in overrides for part in ("--set", override)]
    assert cli.main(["run", f"{ROOT}/configs/{config}.yaml", "--dry-run", *arguments]) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_what_the_launcher_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "runner.name=DirectRunner", "runner.options={}") == (
        "hublabel: --dry-run: it writes the job for DataflowRunner, and runner.name is DirectRunner; to try a config, "
        "run it with --limit 10"
    )
    assert "output.path: out/ is on this machine, and Dataflow's" in refused(capsys, "output.path=out/")
    assert "model.handle: models/m is not where the workers" in refused(
        capsys, "model.handle=models/m", "model.staging=null"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("project", "missing; it must be the id of a Google Cloud project"),
        ("region", "missing; it must be a region of Google Cloud, such as europe-west4"),
        ("temp_location", "missing; it must be a gs:// URI"),
        ("sdk_container_image", "missing; it must be the image of deploy/: Beam's own has neither TensorFlow nor"),
    ],
)
def test_options_that_a_job_cannot_do_without(elsewhere: Path, name: str, said: str) -> None:
    config = load_config(f"{ROOT}/configs/dataflow_gpu.yaml", [])
    options = {option: value for option, value in config.runner.options.items() if option != name}
    runner = config.runner.model_copy(update={"options": options})
    with pytest.raises(dataflow_template.UsageError, match=rf"^runner.options.{name}: {said}"):
        dataflow_template.write_template(config.model_copy(update={"runner": runner}), str(elsewhere))


def test_lengths_need_a_model_on_this_machine(elsewhere: Path) -> None:
    config = load_config(f"{ROOT}/configs/dataflow_gpu.yaml", ["output.logits=true"])
    with pytest.raises(dataflow_template.UsageError, match=r"^output.logits: its length is only known of a model on"):
        dataflow_template.write_template(config, str(elsewhere))


@pytest.mark.usefixtures("elsewhere")
def test_without_credentials_a_run_ends_at_once(
    colour_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipeline.errors import UsageError
    from pipeline.runners import runner_and_options

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    options = load_config(f"{ROOT}/configs/dataflow.yaml", []).runner.options
    with pytest.raises(UsageError, match=r"runner.name: no credentials for Dataflow on this machine \(File .*nowhere"):
        runner_and_options("DataflowRunner", options)
