"""Whole runs on a Beam job service: the same rows as here, each once."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_job_api_pb2

from pipeline import cli, remote_jobs
from pipeline.errors import UsageError
from pipeline.job_record import JobRecord, load_job, save_job
from pipeline.prism import prism_options
from tests.object_store import BUCKET, ObjectStore
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.remote.services import JobService, worker_pool
from tests.pipeline.running import Hublabel, Said, fingerprints, read_rows
from transforms.storage import LocalStorage

PICTURES = 45  # twelve shards, the last of one


@pytest.fixture
def hublabel(hublabel: Hublabel, tmp_path: Path) -> Hublabel:
    """45 entries: pictures, one that is cut and one that is not there."""
    for number in range(PICTURES):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    (tmp_path / "photos" / "007.png").write_bytes(picture_bytes(colour_of(7))[:60])
    uris = [str(tmp_path / "photos" / f"{number:03d}.png") for number in range(PICTURES)]
    (tmp_path / "list.txt").write_text("\n".join([*uris[:-1], str(tmp_path / "nowhere.png")]) + "\n")
    hublabel.config.write_text(hublabel.config.read_text().replace("/photos}", "/list.txt}"))
    return hublabel


def run(hublabel: Hublabel, options: dict[str, Any], *arguments: str, name: str = "PortableRunner") -> Said:
    runner = ["--set", f"runner.name={name}", "--set", f"runner.options={json.dumps(options)}"]
    return hublabel.run(*runner, *arguments)


def expected(hublabel: Hublabel) -> list[dict[str, Any]]:
    """The rows of a run on the DirectRunner."""
    direct = hublabel.output.parent / "direct"
    said = hublabel.run("--set", f"output.path={direct}")
    assert said.code == 0, said.err
    rows = read_rows(direct)
    assert [row["row"] for row in rows] == list(range(PICTURES))
    assert [row["row"] for row in rows if row["status"] == "failed"] == [7, PICTURES - 1]
    return rows


def test_workers_in_the_launcher(hublabel: Hublabel, service: JobService) -> None:
    said = run(hublabel, {"job_endpoint": service.endpoint, "environment_type": "LOOPBACK"})
    assert said.code == 0, said.err
    assert hublabel.rows() == expected(hublabel)
    job = load_job(LocalStorage(str(hublabel.output)))
    assert job is not None
    assert (job.runner, job.at, job.state) == ("PortableRunner", service.endpoint, "DONE")
    assert service.jobs()[job.name] == "DONE"
    assert f"submitted job {job.id} (PortableRunner at {service.endpoint})" in said.err


def test_workers_in_a_pool(hublabel: Hublabel, service: JobService, pool: str) -> None:
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
    said = run(hublabel, options)
    assert said.code == 0, said.err
    assert hublabel.rows() == expected(hublabel)
    assert not list(hublabel.output.glob("attempts/*/*"))
    # The same again: nothing is submitted.
    before, jobs = fingerprints(hublabel.output), service.jobs()
    assert run(hublabel, options).code == 0
    assert fingerprints(hublabel.output) == before
    assert service.jobs() == jobs
    # Failed rows can be tried again there too.
    (hublabel.output.parent / "photos" / "007.png").write_bytes(picture_bytes(colour_of(7)))
    assert cli.main(["retry", str(hublabel.output)]) == 0
    assert [row["row"] for row in hublabel.rows() if row["status"] == "failed"] == [PICTURES - 1]


def test_everything_in_an_object_store(
    hublabel: Hublabel, service: JobService, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images, plan, model and output: launcher and workers share nothing but S3."""
    import boto3

    from tests.pipeline.test_run_remote import ChildWithoutLock, rows_of
    from transforms.storage import open_object_storage

    monkeypatch.setattr("pipeline.children.Child", ChildWithoutLock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "launcher"))
    place = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    s3 = boto3.client("s3")
    for picture in sorted((tmp_path / "photos").glob("*.png")):
        s3.upload_file(str(picture), BUCKET, f"{place.partition(BUCKET + '/')[2]}/photos/{picture.name}")
    (tmp_path / "list.txt").write_text("".join(f"{place}/photos/{number:03d}.png\n" for number in range(PICTURES)))
    folder = tmp_path / "workers"
    folder.mkdir()
    environment = {**object_store.environment, "XDG_CACHE_HOME": str(folder), "PATH": "/usr/bin"}
    with worker_pool(folder, environment) as pool:
        options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
        model = (tmp_path / "colour.yaml").read_text().partition("model: {handle: ")[2].partition(",")[0]
        link = tmp_path / "model.lnk"
        link.symlink_to(model)
        monkeypatch.chdir(tmp_path)
        settings = [f"output.path={place}/out", "model.handle=model.lnk", f"model.staging={place}/models"]
        said = run(hublabel, options, *[part for setting in settings for part in ("--set", setting)])
    assert said.code == 0, said.err
    rows = rows_of(open_object_storage(f"{place}/out"))
    assert [row["row"] for row in rows] == list(range(PICTURES))
    assert [row["row"] for row in rows if row["status"] == "failed"] == [7]
    assert [path.name for path in (folder / "hublabel" / "staged").iterdir() if not path.name.endswith(".lock")]


def test_on_prism(hublabel: Hublabel) -> None:
    """Where there is a Prism (docs/runners.md says how to get it)."""
    try:
        prism_options({})
    except UsageError as error:
        pytest.skip(str(error))
    said = run(hublabel, {}, name="PrismRunner")
    assert said.code == 0, said.err
    assert hublabel.rows() == expected(hublabel)


def test_an_option_that_neither_beam_nor_the_service_knows(hublabel: Hublabel, service: JobService) -> None:
    options = {"job_endpoint": service.endpoint, "environment_type": "LOOPBACK", "paralellism": 2}
    said = run(hublabel, options)
    assert said.code == 2
    assert "runner.options.paralellism: Beam has no such pipeline option; did you mean parallelism?" in said.err
    assert hublabel.parts() == []


def test_no_service_there(hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_jobs, "PATIENCE", 0.3)
    said = run(hublabel, {"job_endpoint": "localhost:1", "environment_type": "LOOPBACK"})
    assert said.code == 1
    assert "runner.options.job_endpoint: no Beam job service answers at localhost:1 within 0.3 seconds" in said.err


def test_a_job_that_fails_says_why(hublabel: Hublabel, service: JobService, pool: str, tmp_path: Path) -> None:
    """The model goes between submission and labelling."""
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
    staging = tmp_path / "staging"
    said = run(hublabel, options, "--set", f"model.staging={staging}", "--limit", "4")
    assert said.code == 0, said.err
    staged = next(staging.glob("*/saved_model.pb"))
    staged.write_bytes(b"another")
    said = run(hublabel, options, "--set", f"model.staging={staging}", "--set", f"output.path={tmp_path}/second")
    assert said.code == 1
    assert f"the model at {staged.parent}: saved_model.pb is not the file that the run began with" in said.err
    job = load_job(LocalStorage(str(tmp_path / "second")))
    assert job is not None
    assert job.state == "FAILED"


def test_a_job_that_its_service_does_not_know_is_submitted_again(hublabel: Hublabel, service: JobService) -> None:
    options = {"job_endpoint": service.endpoint, "environment_type": "LOOPBACK"}
    hublabel.output.mkdir()
    save_job(LocalStorage(str(hublabel.output)), JobRecord("PortableRunner", service.endpoint, "hublabel-1", "id-1"))
    said = run(hublabel, options)
    assert said.code == 0, said.err
    assert f"job id-1 (PortableRunner at {service.endpoint}) is not known there any more" in said.err
    assert "submitted job" in said.err
    assert len(hublabel.rows()) == PICTURES


def test_a_job_that_was_prepared_and_never_run_is_submitted_again(hublabel: Hublabel, service: JobService) -> None:
    """Its launcher died between the two: the service will not run it by itself."""
    name = f"hublabel-{uuid.uuid4().hex}"
    service.stub.Prepare(beam_job_api_pb2.PrepareJobRequest(job_name=name))
    assert service.jobs()[name] == "STOPPED"
    hublabel.output.mkdir()
    save_job(LocalStorage(str(hublabel.output)), JobRecord("PortableRunner", service.endpoint, name))
    said = run(hublabel, {"job_endpoint": service.endpoint, "environment_type": "LOOPBACK"})
    assert said.code == 0, said.err
    assert service.jobs()[name] == "STOPPED"
    assert len(hublabel.rows()) == PICTURES


def test_another_runner_must_not_begin_while_a_job_may_go_on(hublabel: Hublabel) -> None:
    storage = LocalStorage(str(hublabel.output))
    job = save_job(storage, JobRecord("FlinkRunner", "flink:8081", "hublabel-1", "id-1", state="RUNNING"))
    said = hublabel.run()
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        f"hublabel: {hublabel.output}: job id-1 (FlinkRunner at flink:8081) may still go on, and runner.name is "
        f"DirectRunner now; attach to it by running with FlinkRunner again, or, when it has ended, delete "
        f"{hublabel.output}/job.json"
    )
    assert hublabel.parts() == []
    save_job(storage, job, state="FAILED")
    assert hublabel.run().code == 0


def test_the_same_runner_elsewhere_must_not_begin_while_a_job_may_go_on(
    hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would be asked for the job, not know it, and get a second one."""
    monkeypatch.setattr(remote_jobs, "PATIENCE", 0.3)
    storage = LocalStorage(str(hublabel.output))
    job = save_job(storage, JobRecord("PortableRunner", "here:1", "hublabel-1", "id-1"))
    options = {"job_endpoint": "localhost:1", "environment_type": "LOOPBACK"}
    said = run(hublabel, options)
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        f"hublabel: {hublabel.output}: job id-1 (PortableRunner at here:1) may still go on, and runner.options name "
        f"localhost:1 now; attach to it by running with here:1 again, or, when it has ended, delete "
        f"{hublabel.output}/job.json"
    )
    assert not (hublabel.output / "run.yaml").exists()
    save_job(storage, job, ends_with_launcher=True)  # and so it did
    assert "no Beam job service answers at localhost:1" in run(hublabel, options).err


def test_other_settings_must_not_attach_to_a_job_that_may_go_on(
    hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels would be taken for those of the new settings."""
    monkeypatch.setattr(remote_jobs, "PATIENCE", 0.3)
    options = {"job_endpoint": "localhost:1", "environment_type": "EXTERNAL", "environment_config": "localhost:1"}
    assert run(hublabel, options).code == 1  # planned, and nobody there to submit it to
    storage, before = LocalStorage(str(hublabel.output)), (hublabel.output / "run.yaml").read_bytes()
    job = save_job(storage, JobRecord("PortableRunner", "localhost:1", "hublabel-1", "id-1"))
    said = run(hublabel, options, "--set", "image.channels=bgr")
    assert said.code == 2
    assert said.err.endswith(
        f"hublabel: {hublabel.output}: job id-1 (PortableRunner at localhost:1) may still go on, and labels with other "
        'settings:\n  image.channels: the run has "rgb", now it is "bgr"\nchoose another output.path, or go back to '
        f"those settings to attach to it, or, when it has ended, delete {hublabel.output}/job.json\n"
    )
    assert (hublabel.output / "run.yaml").read_bytes() == before
    for over in ({"state": "CANCELLED"}, {"ends_with_launcher": True}):
        save_job(storage, job, **over)
        assert "no Beam job service answers" in run(hublabel, options, "--set", "image.channels=bgr").err
        (hublabel.output / "run.yaml").write_bytes(before)


def test_a_damaged_record_of_a_job_is_told(hublabel: Hublabel) -> None:
    hublabel.output.mkdir()
    (hublabel.output / "job.json").write_text('{"runner"')
    said = hublabel.run()
    assert said.code == 2
    assert f"{hublabel.output}/job.json: damaged (" in said.err
