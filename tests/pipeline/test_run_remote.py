"""Whole runs with their output in an object store."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli, lease
from pipeline.job_record import JobRecord, save_job
from pipeline.staging import local_log
from tests.object_store import BUCKET, ObjectStore
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.running import ChildInProcess, expected_row, in_process
from transforms.parts import DamagedPartError, PartFooter, encode_part, part_footers, part_name
from transforms.plan_reader import read_shard
from transforms.records import Shard
from transforms.storage import ObjectStorage, StorageError, open_object_storage

PARTS = [f"predictions/00000/part-{number:05d}.parquet" for number in range(3)]


class ChildWithoutLock(ChildInProcess):
    """The child of a run whose lock is a lease, which no process can inherit."""

    def __init__(self, module: str, arguments: Sequence[str], log: str, inherit: Sequence[int] = ()) -> None:
        assert inherit == ()
        super().__init__(module, arguments, log, inherit=[0])
        with open(log, "a") as file:
            file.write("a line\n")


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """A folder of its own in a bucket: of S3, or of the store that a test has as its parameter."""
    scheme = getattr(request, "param", "s3")
    request.getfixturevalue({"s3": "object_store", "gs": "google_store"}[scheme])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_object_storage(f"{scheme}://{BUCKET}/{uuid.uuid4().hex}/out")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, storage: ObjectStorage) -> type[ChildInProcess]:
    in_process(monkeypatch)
    monkeypatch.setattr("pipeline.children.Child", ChildWithoutLock)
    return ChildWithoutLock


def run(config: Path, storage: ObjectStorage, *arguments: str) -> int:
    return cli.main(["run", str(config), "--set", f"output.path={storage.root}", *arguments])


def rows_of(storage: ObjectStorage) -> list[dict[str, Any]]:
    names = [name for folder in storage.list("predictions") for name in storage.list(folder)]
    rows = [row for name in names for row in pq.read_table(io.BytesIO(storage.read(name))).to_pylist()]
    return sorted(rows, key=lambda row: row["row"])


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("storage", ["s3", "gs"], indirect=True)
def test_a_run_its_resumption_and_its_extension(
    storage: ObjectStorage, colour_config: Path, picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert run(colour_config, storage) == 0
    assert rows_of(storage) == expected
    assert f"predictions: {storage.root}/predictions (Parquet)\n" in capsys.readouterr().out
    assert sorted(storage.list("predictions/00000")) == PARTS
    finished = ["_SUCCESS", "plan/plan-00000.parquet", "report.json", "run.log", "run.yaml"]
    assert [name for name in [*finished, lease.NAME] if storage.exists(name)] == finished
    assert list(storage.list("attempts")) == []
    assert json.loads(storage.read("report.json"))["images"] == 10
    assert storage.read("run.log") == b"a line\n"

    kept = {name: storage.tag(name) for name in PARTS}
    assert run(colour_config, storage) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {name: storage.tag(name) for name in PARTS} == kept

    storage.delete(PARTS[1])
    os.remove(local_log(storage))  # going on from another machine
    assert run(colour_config, storage) == 0
    assert "going on: 6 of 10 images are done" in capsys.readouterr().err
    assert rows_of(storage) == expected
    assert [storage.tag(name) == kept[name] for name in PARTS] == [True, False, True]
    assert storage.read("run.log") == b"a line\na line\n"

    (picture_folder / "010.png").write_bytes(picture_bytes(colour_of(10)))
    assert run(colour_config, storage, "--extend") == 0
    assert rows_of(storage) == [*expected, expected_row(10, picture_folder / "010.png", 10)]
    assert sorted(storage.list("plan")) == ["plan/plan-00000.parquet", "plan/plan-00001.parquet"]

    assert cli.main(["verify", storage.root]) == 0
    storage.delete(PARTS[2])
    assert cli.main(["verify", storage.root]) == 1
    capsys.readouterr()
    assert cli.main(["show", storage.root, "--rows", "1"]) == 0
    assert "000.png  red" in capsys.readouterr().out


@pytest.mark.usefixtures("children")
def test_columns_are_carried_and_bad_lines_are_rows(
    storage: ObjectStorage, colour_config: Path, picture_folder: Path, children: type[ChildInProcess], tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    arguments = ["--set", f"input.path={path}", "--set", "input.columns=[id]", "--set", "input.on_bad_line=row"]
    path.write_text("uri,id\nphotos/003.png,7\nbroken\n")
    assert run(colour_config, storage, *arguments) == 0
    path.write_text("uri,id\nphotos/003.png,7\nbroken\nphotos/004.png,\n")
    assert run(colour_config, storage, *arguments, "--extend") == 0
    rows = rows_of(storage)
    assert [(row["uri"], row["id"], row["error_type"]) for row in rows] == [
        (f"{picture_folder}/003.png", 7, None),
        (f"{path}#line=3", None, "bad_line"),
        (f"{picture_folder}/004.png", None, None),
    ]
    assert cli.main(["verify", storage.root]) == 0


def test_failed_pictures_are_tried_again(storage: ObjectStorage, colour_config: Path, picture_folder: Path) -> None:
    (picture_folder / "003.png").write_bytes(b"no picture")
    assert run(colour_config, storage) == 0
    assert [row["row"] for row in rows_of(storage) if row["status"] == "failed"] == [3]
    (picture_folder / "003.png").write_bytes(picture_bytes(colour_of(3)))
    assert cli.main(["retry", storage.root]) == 0
    assert rows_of(storage) == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert sorted(storage.list("predictions/00000")) == [
        f"{PARTS[0].removesuffix('.parquet')}-g001.parquet",
        *PARTS[1:],
    ]


@pytest.mark.usefixtures("children", "picture_folder")
def test_a_plan_that_was_never_recorded_is_replaced(storage: ObjectStorage, colour_config: Path) -> None:
    for name in ("plan/plan-00000.parquet", "plan/plan-00001.parquet"):
        storage.replace(name, b"an older one")
    assert run(colour_config, storage) == 0
    assert list(storage.list("plan")) == ["plan/plan-00000.parquet"]
    assert len(rows_of(storage)) == 10


def test_a_store_that_fails_is_one_message(
    storage: ObjectStorage, object_store: ObjectStore, colour_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    object_store.refuse = lambda *_: (403, "AccessDenied")
    assert run(colour_config, storage) == 2
    message = f"hublabel: output.path: {storage.root} cannot be written to: s3://{BUCKET}: access denied (403)\n"
    assert capsys.readouterr().err.splitlines(keepends=True)[-1] == message
    object_store.refuse = lambda *request: (403, "AccessDenied") if request[1].endswith("run.yaml") else None
    assert cli.main(["show", storage.root]) == 1
    assert capsys.readouterr().err == f"hublabel: {storage.root}/run.yaml: access denied (AccessDenied)\n"


def test_a_run_that_loses_its_lease_ends(
    storage: ObjectStorage,
    children: type[ChildInProcess],
    colour_config: Path,
    picture_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held: list[lease.Lease] = []
    acquire = lease.Lease.acquire
    monkeypatch.setattr(lease.Lease, "acquire", lambda self, say: (acquire(self, say), held.append(self)))
    poll = children.poll

    def overtaken(self: ChildInProcess) -> int:
        other = {"id": "other", "host": "elsewhere", "pid": 7, "machine": ""}
        storage.replace(lease.NAME, json.dumps(other).encode())
        held[0].renew()
        return poll(self)

    monkeypatch.setattr(children, "poll", overtaken)
    assert run(colour_config, storage) == 1
    assert f"hublabel: {storage.root}: process 7 on elsewhere took over this output" in capsys.readouterr().err
    assert not storage.exists("_SUCCESS")
    assert storage.exists(lease.NAME)


def test_the_command_as_a_process(storage: ObjectStorage, colour_config: Path, picture_folder: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "run", str(colour_config), "--set", f"output.path={storage.root}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"report: {storage.root}/report.json"), done.stderr
    assert rows_of(storage) == [expected_row(n, picture_folder / f"{n:03d}.png", n) for n in range(10)]
    assert not storage.exists(lease.NAME)


def test_the_parent_imports_neither_beam_nor_tensorflow(storage: ObjectStorage, colour_config: Path) -> None:
    program = (
        "import sys; from pipeline import cli; cli.main(sys.argv[1:]); "
        "assert 'boto3' in sys.modules; print({'apache_beam', 'tensorflow'} & set(sys.modules))"
    )
    arguments = ["run", str(colour_config), "--set", f"output.path={storage.root}", "--set", "input.path=/nowhere"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_footers_of_many_parts_are_read_at_once(storage: ObjectStorage, object_store: ObjectStore) -> None:
    """One request each, several in flight; what is damaged or gone is told apart."""
    names = [part_name(Shard(0, number, 1)) for number in range(40)]
    for number, name in enumerate(names):
        footer = PartFooter("plan", 0, number, 0, rows=1, failed=0, run="run")
        storage.replace(name, encode_part(pa.table({"row": [number]}), footer))
    storage.replace(names[7], b"truncated")
    storage.delete(names[9])
    object_store.well()
    found = dict(part_footers(storage, names))
    assert list(found) == names[:9] + names[10:]
    assert isinstance(found.pop(names[7]), DamagedPartError)
    assert [footer.row_group for footer in found.values()] == [n for n in range(40) if n not in (7, 9)]
    assert len(object_store.requests) == 40


@pytest.mark.usefixtures("children", "picture_folder")
@pytest.mark.parametrize("storage", ["s3", "gs"], indirect=True)
def test_what_workers_have_left_that_planned_before_goes(
    storage: ObjectStorage, colour_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With word of their job, which may go on: nobody looks at what it makes."""
    job = JobRecord("PortableRunner", "host:1", "hublabel-plan-1")
    partial = open_object_storage(f"{storage.root}/plan.partial")
    save_job(partial, job)
    partial.replace("aa-piece-00000-000.parquet", b"x")
    assert run(colour_config, storage) == 0
    assert f"{job}, which plans, may still go on; what it makes is not looked at" in capsys.readouterr().err
    assert list(storage.list("plan.partial")) == []
    assert cli.main(["verify", storage.root]) == 0
    partial.replace("aa-piece-00000-000.parquet", b"of a worker that is late")
    capsys.readouterr()
    assert cli.main(["verify", storage.root]) == 1
    assert "other files: plan.partial: left over from an attempt that was killed" in capsys.readouterr().out


@pytest.mark.usefixtures("children", "picture_folder")
def test_an_outage_is_not_taken_for_a_damaged_plan(
    storage: ObjectStorage, object_store: ObjectStore, colour_config: Path
) -> None:
    assert run(colour_config, storage) == 0
    path = f"{storage.root}/plan/plan-00000.parquet"
    object_store.refuse = lambda *_: (403, "AccessDenied")
    with pytest.raises(StorageError, match=rf"^{path}: access denied \(403\)$"):
        read_shard(path, 0)
    object_store.well()
    storage.replace("plan/plan-00000.parquet", b"cut off")
    with pytest.raises(StorageError, match=f"^{path}: the plan cannot be read .*restore it from a copy"):
        read_shard(path, 0)
