"""Plans made by workers: the rows of the launcher's, and what is said when they cannot be."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli, leaving, planning_child, planning_place, worker_planning
from pipeline.config import load_config
from pipeline.console import plain_console
from pipeline.job_record import JobRecord, load_job, save_job
from pipeline.record import load_record
from pipeline.remote_jobs import NoAnswerError
from pipeline.signals import Signals, StoppedError
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.lake import Lake
from tests.pipeline.remote.services import JobService, worker_pool
from tests.pipeline.running import Hublabel, read_rows
from transforms.manifest_lines import MAX_LINE_BYTES
from transforms.storage import LocalStorage, Storage, open_storage

PICTURES = 45


@pytest.fixture
def hublabel(hublabel: Hublabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hublabel:
    """Two lists, in folders of their own, of 46 images together, 41 of them different; pieces of 64 bytes."""
    monkeypatch.setattr(worker_planning, "PIECE_BYTES", 64)
    monkeypatch.setattr(worker_planning, "MOST_PIECES", 1000)
    for number in range(40):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    lines = [f"{number:03d}.png\r\n" for number in range(40)]
    (tmp_path / "photos" / "list.txt").write_bytes(b"\xef\xbb\xbf" + "".join(lines[:30]).encode() + b"\r\n \n")
    others = [f"./photos/{line}" for line in lines[25:]]
    (tmp_path / "list.txt").write_text("\n" + "".join(others) + f"{tmp_path}/nowhere.png", newline="")
    return hublabel


def remote(options: dict[str, Any], planning: str = "runner") -> list[str]:
    settings = ["runner.name=PortableRunner", f"runner.options={json.dumps(options)}", f"run.planning={planning}"]
    return [part for setting in settings for part in ("--set", setting)]


def lists(folder: Path) -> list[str]:
    return ["--set", f"input.path=[{folder}/photos/list.txt, {folder}/list.txt]"]


def loopback(service: JobService) -> dict[str, Any]:
    return {"job_endpoint": service.endpoint, "environment_type": "LOOPBACK"}


def plan_of(storage: Storage) -> pa.Table:
    """The rows of the recorded plan; each file is as it was recorded."""
    record = load_record(storage, storage.root)
    assert record is not None
    tables = []
    for file in record.plan.files:
        with storage.open(file.name) as opened:
            parquet = pq.ParquetFile(opened)
            rows = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            assert rows == [file.shard_rows(number) for number in range(file.shards)]
            tables.append(parquet.read())
    assert record.plan.shards == sum(file.shards for file in record.plan.files)
    return pa.concat_tables(tables)


def test_the_rows_are_those_of_the_direct_runner(
    hublabel: Hublabel, service: JobService, pool: str, tmp_path: Path
) -> None:
    direct = LocalStorage(str(tmp_path / "direct"))
    assert hublabel.run("--set", f"output.path={direct.root}", *lists(tmp_path)).code == 0
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
    said = hublabel.run(*remote(options), *lists(tmp_path))
    assert said.code == 0, said.err
    rows = hublabel.rows()
    assert rows == read_rows(tmp_path / "direct")
    assert [row["row"] for row in rows] == list(range(46))
    assert [row["row"] for row in rows if row["status"] == "failed"] == [45]
    output = LocalStorage(str(hublabel.output))
    assert plan_of(output).equals(plan_of(direct))
    record, other = load_record(output, output.root), load_record(direct, direct.root)
    assert record is not None
    assert other is not None
    assert (record.plan.rows, record.plan.shard_size, record.plan.left_out) == (46, 4, {"blank_line": 3})
    assert record.plan.left_out == other.plan.left_out
    assert len(record.plan.files) > 5
    assert "which plans" in said.err
    assert "46 images in " in said.err
    assert not (hublabel.output / "plan.partial").exists()
    assert cli.main(["verify", output.root]) == 0
    jobs = service.jobs()
    # Nothing is planned again; new images are looked for by the launcher.
    assert hublabel.run(*remote(options), *lists(tmp_path)).code == 0
    assert service.jobs() == jobs
    with (tmp_path / "list.txt").open("a") as file:
        file.write("\nphotos/../photos/001.png\n")
    said = hublabel.run(*remote(options), *lists(tmp_path), "--extend")
    assert said.code == 2
    assert "run.planning: runner is not possible with --extend: the launcher looks for what is new" in said.err
    assert hublabel.run(*remote(options, "auto"), *lists(tmp_path), "--extend").code == 0
    assert [row["uri"] for row in hublabel.rows()[46:]] == [f"{tmp_path}/photos/../photos/001.png"]
    assert cli.main(["verify", output.root]) == 0
    damaged = pq.read_table(hublabel.output / "plan/plan-00001.parquet")
    uris = pa.array([uri.replace("photos", "videos") for uri in damaged["uri"].to_pylist()])
    pq.write_table(damaged.set_column(1, damaged.schema.field(1), uris), hublabel.output / "plan/plan-00001.parquet")
    assert cli.main(["verify", output.root]) == 1


@pytest.mark.parametrize("lake", ["object_store", "google_store"], indirect=True)
def test_lists_and_output_in_an_object_store(
    lake: Lake, hublabel: Hublabel, service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the size that is stated, without being told to."""
    from tests.pipeline.test_run_remote import ChildWithoutLock, rows_of

    monkeypatch.setattr("pipeline.children.Child", ChildWithoutLock)
    monkeypatch.setattr(planning_place, "AUTO_BYTES", 648)
    for number in range(12):
        lake.put(f"photos/{number:03d}.png", picture_bytes(colour_of(number)))
    for name in ("a", "b", "c"):
        lake.put(f"lists/{name}.txt", "".join(f"../photos/{number:03d}.png\n" for number in range(12)))
    folder = tmp_path / "workers"
    folder.mkdir()
    environment = {**lake.server.environment, "XDG_CACHE_HOME": str(folder), "PATH": "/usr/bin"}
    with worker_pool(folder, environment) as pool:
        options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
        settings = [f"output.path={lake.root}/out", f"input.path={lake.root}/lists/*.txt"]
        arguments = [part for setting in settings for part in ("--set", setting)]
        said = hublabel.run(*remote(options, "auto"), *arguments)
        assert said.code == 0, said.err
        assert "which plans" in said.err
        storage = open_storage(f"{lake.root}/out")
        rows = rows_of(storage)  # type: ignore[arg-type]
        assert [(row["row"], row["uri"], row["status"]) for row in rows] == [
            (index, f"{lake.root}/photos/{index % 12:03d}.png", "ok") for index in range(36)
        ]
        assert plan_of(storage)["uri"].to_pylist() == [row["uri"] for row in rows]
        assert list(storage.list("plan.partial")) == []
        monkeypatch.setattr(planning_place, "AUTO_BYTES", 649)
        settings[0] = f"output.path={lake.root}/other"
        arguments = [part for setting in settings for part in ("--set", setting)]
        said = hublabel.run(*remote(options, "auto"), *arguments)
        assert said.code == 0, said.err
        assert "which plans" not in said.err
        assert plan_of(open_storage(f"{lake.root}/other")).equals(plan_of(storage))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"/a\n\n/b\n" + b"x" * (MAX_LINE_BYTES + 1), "list.txt': line 4 is longer than 1 MiB"),
        (b"\n \n\n" * 40, "list.txt' holds no line (left out: 122 blank lines)"),
        (b"", "list.txt' holds no line (left out: 2 blank lines)"),
        ("/a\n".encode("utf-16"), "list.txt' is UTF-16; save the list as UTF-8"),
        (b"/a\0\n", "list.txt' is neither text with one URI a line"),
    ],
)
def test_what_is_no_list_is_told_as_the_launcher_would(
    hublabel: Hublabel,
    service: JobService,
    tmp_path: Path,
    text: bytes,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_planning, "PIECE_BYTES", 1 << 19)
    (tmp_path / "list.txt").write_bytes(text)
    told = hublabel.run(*remote(loopback(service)), *lists(tmp_path))
    direct = hublabel.run("--set", f"output.path={tmp_path}/direct", *lists(tmp_path))
    assert (told.code, direct.code) == (2, 2)
    assert f"input.path[1]: '{tmp_path}/{said}" in told.err
    assert told.err.splitlines()[-1] == direct.err.splitlines()[-1]
    assert not list(hublabel.output.glob("plan*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["input.path={folder}/photos"], "input.path: '{folder}/photos' is no text file of URIs"),
        (["input.path={folder}/list.csv"], "input.path: '{folder}/list.csv' is no text file of URIs"),
        (["input.path={folder}/list.txt.gz"], "input.path: '{folder}/list.txt.gz' is compressed, and so cannot be cut"),
        (["input.path={folder}/pipe"], "input.path: '{folder}/pipe' is no regular file"),
        (["input.path=list.txt"], "input.path: 'list.txt' is relative, and workers work elsewhere: it takes a gs://"),
        (["input.path={folder}/list.txt", "input.limit=3"], "with input.limit only the beginning of the input is read"),
    ],
)
def test_what_workers_cannot_plan(
    hublabel: Hublabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], said: str
) -> None:
    for name in ("list.csv", "list.txt.gz"):
        (tmp_path / name).write_text("uri\n/a\n")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    arguments = [part for setting in settings for part in ("--set", setting.format(folder=tmp_path))]
    options = {"job_endpoint": "localhost:1", "environment_type": "EXTERNAL", "environment_config": "localhost:1"}
    told = hublabel.run(*remote(options), *arguments)
    assert told.code == 2
    line = told.err.splitlines()[-1]
    assert line.startswith(f"hublabel: run.planning: runner is not possible here: {said.format(folder=tmp_path)}")
    assert line.endswith("; it must be auto or launcher")


def test_a_column_that_a_list_cannot_have(hublabel: Hublabel, service: JobService, tmp_path: Path) -> None:
    told = hublabel.run(*remote(loopback(service)), *lists(tmp_path), "--set", "input.columns=[a]")
    assert told.code == 2
    assert told.err.splitlines()[-1] == "hublabel: input.columns: no column 'a' in any of the 2 inputs"


def test_a_large_input_that_workers_cannot_plan_is_the_launchers_with_a_reason(
    hublabel: Hublabel, service: JobService, pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"job_endpoint": service.endpoint, "environment_type": "EXTERNAL", "environment_config": pool}
    monkeypatch.setattr(planning_place, "AUTO_BYTES", 100)
    said = hublabel.run(*remote(options, "auto"), *lists(tmp_path))
    assert said.code == 0, said.err
    assert "planned by the launcher and not by workers: input.path[0]: " in said.err
    assert "is on a disk that workers may not see (run.planning: runner says that they do)" in " ".join(
        said.err.split()
    )
    assert "which plans" not in said.err
    assert len(hublabel.rows()) == 46


def test_a_job_that_an_earlier_launcher_left_is_cancelled(
    hublabel: Hublabel, service: JobService, tmp_path: Path
) -> None:
    """And what it had made goes; what its workers may still make does no harm."""
    partial = LocalStorage(str(hublabel.output / "plan.partial"))
    save_job(partial, JobRecord("PortableRunner", service.endpoint, f"hublabel-plan-{uuid.uuid4().hex}", "gone"))
    partial.replace("0123456789ab-piece-00000-000.parquet", b"late")
    (hublabel.output / "plan").mkdir()
    (hublabel.output / "plan" / "plan-00099.parquet").write_bytes(b"never recorded")
    said = hublabel.run(*remote(loopback(service)), *lists(tmp_path))
    assert said.code == 0, said.err
    assert not (hublabel.output / "plan.partial").exists()
    assert not (hublabel.output / "plan" / "plan-00099.parquet").exists()
    assert len(hublabel.rows()) == 46
    job = load_job(LocalStorage(str(hublabel.output)))
    assert job is not None
    assert "-plan-" not in job.name


def test_a_list_that_changes_while_it_is_planned(
    hublabel: Hublabel, service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning_place, "version_of", lambda path: "of yesterday")
    told = hublabel.run(*remote(loopback(service)), *lists(tmp_path))
    assert told.code == 1
    assert "photos/list.txt: the list has changed since planning began" in " ".join(told.err.split())
    assert not list(hublabel.output.glob("plan*"))
    assert not (hublabel.output / "run.yaml").exists()


@pytest.mark.parametrize(
    ("end", "said"),
    [("CANCELLED", "was cancelled"), (NoAnswerError("no answer"), "its runner does not answer any more")],
)
def test_a_job_that_does_not_get_to_its_end(
    hublabel: Hublabel,
    service: JobService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str | NoAnswerError,
    said: str,
) -> None:
    def watch(*_: object) -> str:
        if isinstance(end, NoAnswerError):
            raise end
        return end

    monkeypatch.setattr(planning_child, "watch", watch)
    told = hublabel.run(*remote(loopback(service)), *lists(tmp_path))
    assert told.code == 1
    text = " ".join(told.err.split())
    assert ", which plans" in text
    assert f"{said}; run the same command again to plan anew" in text
    assert not (hublabel.output / "run.yaml").exists()
    assert not (hublabel.output / "plan").exists()
    # Only a job that may go on is remembered, to be cancelled.
    assert (hublabel.output / "plan.partial" / "job.json").exists() == isinstance(end, NoAnswerError)


def test_a_runner_that_does_not_end_the_job_in_time(
    hublabel: Hublabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stubborn:
        """A child whose job does not end, while Ctrl-C has come."""

        def __init__(self) -> None:
            self.signals, self.ordered = Signals(), ""
            self.signals.received = signal.SIGINT

        @contextmanager
        def planner(self, job: str) -> Iterator[Stubborn]:
            yield self

        def order(self, word: str) -> None:
            self.ordered += word

        def poll(self) -> None:
            return None

    child: Any = Stubborn()
    monkeypatch.setattr(leaving, "CANCELLING", 0.1)
    with pytest.raises(StoppedError):
        worker_planning._run(
            load_config(hublabel.config), LocalStorage(str(tmp_path)), "", [], child, plain_console(stderr=True)
        )
    assert child.ordered == "cancel"
    assert capsys.readouterr().err == (
        "cancelling the job that plans ...\n"
        "the runner has not ended it within 0.1 seconds; look there whether it does\n"
    )


def test_tables_and_tars_are_not_asked_for_their_sizes(
    lake: Lake, hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be many thousands of them."""
    for number in range(3):
        lake.put(f"lists/{number}.csv", "uri\n/a.png\n")
    monkeypatch.setattr(planning_place, "file_size", lambda path: pytest.fail(f"{path!r}"))
    overrides = [f"input.path={lake.root}/lists/*.csv", "runner.name=FlinkRunner", "runner.options={flink_master: f:1}"]
    config = load_config(str(hublabel.config), overrides)
    assert planning_place.lists_for_workers(config, True, pytest.fail) is None


def test_each_list_is_asked_for_once(s3_lake: Lake, hublabel: Hublabel) -> None:
    """One after the other, and there may be many thousands of them."""
    for number in range(20):
        s3_lake.put(f"lists/{number:02d}.txt", "/a.png\n")
    asked: Counter[str] = Counter()
    s3_lake.server.refuse = lambda method, path, headers: asked.update([f"{method} {path.rpartition('/')[2]}"])
    options = {"job_endpoint": "f:1", "environment_type": "EXTERNAL", "environment_config": "f:1"}
    overrides = [f"input.path={s3_lake.root}/lists/*.txt", *remote(options)[1::2]]
    lists = planning_place.lists_for_workers(load_config(str(hublabel.config), overrides), True, pytest.fail)
    assert lists is not None
    assert [found.bytes for found in lists] == [7] * 20
    of_lists = {one: count for one, count in asked.items() if one.endswith(".txt") and "*" not in one}
    assert of_lists == {f"{method} {n:02d}.txt": 1 for method in ("GET", "HEAD") for n in range(20)}


def test_a_list_whose_size_cannot_be_told_is_not_taken_for_an_empty_one(
    s3_lake: Lake, hublabel: Hublabel, service: JobService
) -> None:
    for number in range(3):
        s3_lake.put(f"lists/{number}.txt", "/a.png\n")
    s3_lake.server.refuse = lambda method, path, headers: (403, "AccessDenied") if path.endswith("1.txt") else None
    told = hublabel.run(*remote(loopback(service)), "--set", f"input.path={s3_lake.root}/lists/*.txt")
    assert told.code == 2
    assert f"{s3_lake.root}/lists/1.txt' cannot be read: {s3_lake.root}" in told.err
    assert "access denied" in told.err


def test_what_another_launcher_leaves_stays(tmp_path: Path) -> None:
    """One that has lost its output to another must not take away what that one's workers have written."""
    storage = LocalStorage(str(tmp_path))
    names = [
        "plan.partial/aa-piece-00000-counted.json",
        "plan.partial/.tmp-aa-1",
        "plan.partial/bb-piece-00000-000.parquet",
    ]
    for name in names:
        storage.replace(name, b"x")
    job = JobRecord("PortableRunner", "host:1", "hublabel-plan-1", "1")
    save_job(LocalStorage(f"{storage.root}/plan.partial"), job)
    worker_planning.tidy(storage, "aa")
    assert sorted(storage.list("plan.partial")) == [names[2], "plan.partial/job.json"]
    worker_planning.tidy(storage)
    assert list(storage.list("plan.partial")) == ["plan.partial/job.json"]
    save_job(LocalStorage(f"{storage.root}/plan.partial"), job, state="DONE")
    worker_planning.tidy(storage)
    assert list(tmp_path.iterdir()) == []
