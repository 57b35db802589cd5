"""Disks that fill, turn read-only, vanish or lie: told in one message, and the same command goes on once mended."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.going_on import goes_on, told_in_one_message
from tests.pipeline.running import Hublabel, fingerprints
from transforms import write_shards
from transforms.storage import LocalStorage

MEND = "what is committed stays: mend it, and run the same command again to go on"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)  # plan files may be open


def can_mount() -> bool:
    """Whether these tests may mount file systems: root may, outside of tight containers."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    bind = ["unshare", "-m", "mount", "--bind", "/proc/self", "/proc/self"]  # in a name space that goes with it
    return subprocess.run(bind, capture_output=True, check=False).returncode == 0


GONE = (
    "the output is no longer there: it was moved, deleted or unmounted while the run went on; "
    "bring it back, and run the same command again to go on"
)
ONE_AFTER_THE_OTHER = ("--set", "runner.options.direct_num_workers=1")
REAL = ["real"] if can_mount() else []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 256 KiB large, in place of the output folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder))
    yield folder
    unmount(folder)


@pytest.fixture
def at_second_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """What is to happen once, just before the second part is committed."""
    waiting: list[Callable[[], Any]] = []
    commits = 0
    commit_part = write_shards.commit_part

    def commit(*arguments: Any) -> bool:
        nonlocal commits
        commits += 1
        if commits == 2 and waiting:
            waiting.pop()()
        return commit_part(*arguments)

    monkeypatch.setattr(write_shards, "commit_part", commit)
    return waiting.append


@contextlib.contextmanager
def failing_writes(number: int, *parts_of_names: str) -> Iterator[None]:
    """Writing objects whose names have one of these parts fails as a disk would with error `number`."""
    written = LocalStorage._written

    @contextlib.contextmanager
    def failing(self: LocalStorage, name: str, data: bytes) -> Iterator[str]:
        with written(self, name, data) as temporary:
            if any(part in name for part in parts_of_names):
                raise OSError(number, os.strerror(number))
            yield temporary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "_written", failing)
        yield


# Full.


@pytest.mark.parametrize("kind", ["fake", *REAL])
def test_a_disk_that_fills_while_labelling(
    kind: str,
    request: pytest.FixtureRequest,
    hublabel: Hublabel,
    picture_folder: Path,
    at_second_commit: Callable[[Callable[[], Any]], None],
) -> None:
    with contextlib.ExitStack() as full:
        if kind == "real":
            folder = request.getfixturevalue("disk")
            at_second_commit(lambda: fill(folder))
        else:
            at_second_commit(lambda: full.enter_context(failing_writes(errno.ENOSPC, "/part-")))
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
    (first,) = hublabel.parts()
    missing = {f"part-0000{n}.parquet" for n in range(3)} - {first.name}
    place = f"{hublabel.output}/predictions/00000"
    assert any(f"{place}/{name}: the disk is full; {MEND}" in said.err for name in missing)
    told_in_one_message(said, said.err.splitlines()[-1].removeprefix("hublabel: "))
    assert sorted(os.listdir(place)) == [first.name]
    kept = fingerprints(hublabel.output)
    (hublabel.output / "ballast").unlink(missing_ok=True)
    goes_on(hublabel, picture_folder, kept)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.parametrize("name", ["run.yaml", "attempts/", "report.json", "_SUCCESS"])
def test_a_disk_too_full_for_a_small_file(name: str, hublabel: Hublabel, picture_folder: Path) -> None:
    with failing_writes(errno.ENOSPC, name):
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
    told = said.err.splitlines()[-1]
    assert told.startswith(f"hublabel: {hublabel.output}/{name}")
    told_in_one_message(said, told.removeprefix("hublabel: "))
    assert told.endswith(f": the disk is full; {MEND}")
    assert not (hublabel.output / "_SUCCESS").exists()
    goes_on(hublabel, picture_folder, fingerprints(hublabel.output))


def test_a_disk_too_full_for_the_plan(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
    told_in_one_message(said, f"output.path: the plan cannot be written to '{hublabel.output}/plan': the disk is full")
    assert not list(hublabel.output.glob("plan*/*"))
    goes_on(hublabel, picture_folder, {})


def test_a_lock_is_held_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.lock import OutputBusyError, output_lock

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr("pipeline.lock.PATIENCE", 0.0)
    with output_lock(str(tmp_path)), pytest.raises(OutputBusyError), output_lock(str(tmp_path)):
        pass


# Read-only.


@pytest.mark.parametrize("kind", ["fake", *REAL])
def test_a_disk_that_turns_read_only_while_labelling(
    kind: str, hublabel: Hublabel, picture_folder: Path, at_second_commit: Callable[[Callable[[], Any]], None]
) -> None:
    with contextlib.ExitStack() as mended:
        if kind == "real":
            parts = hublabel.output / "predictions"
            at_second_commit(lambda: make_read_only(parts))
            mended.callback(unmount, parts)
        else:
            at_second_commit(lambda: mended.enter_context(failing_writes(errno.EROFS, "/part-", "attempts/")))
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
        (first,) = hublabel.parts()
    told = said.err.splitlines()[-1].removeprefix("hublabel: ")
    assert told.endswith(f": the file system is read-only; {MEND}")
    told_in_one_message(said, told)
    goes_on(hublabel, picture_folder, {first.name: fingerprints(hublabel.output)[first.name]})


@pytest.mark.parametrize("kind", ["fake", *REAL])
def test_an_output_that_cannot_be_created(
    kind: str, request: pytest.FixtureRequest, hublabel: Hublabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "real":
        mount("-o", "remount,ro", str(request.getfixturevalue("disk")))
    else:

        def refuse(path: str, *_: object, **__: object) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        monkeypatch.setattr(os, "makedirs", refuse)
    said = hublabel.run()
    assert said.code == 2
    (told,) = said.err.splitlines()[1:]
    assert told.startswith(f"hublabel: output.path: {hublabel.output} cannot be written to: ")


def test_a_file_in_the_place_of_the_output(hublabel: Hublabel) -> None:
    hublabel.output.write_text("not a folder")
    said = hublabel.run()
    assert said.code == 2
    (told,) = said.err.splitlines()[1:]
    assert told.startswith(f"hublabel: output.path: {hublabel.output} cannot be written to: ")
    assert hublabel.output.read_text() == "not a folder"


def make_read_only(folder: Path) -> None:
    """As a disk does after an error; a folder alone, since the kernel refuses it for a mount that is written to."""
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))


# Gone.


def test_an_output_that_is_moved_away_is_not_made_anew(
    hublabel: Hublabel, picture_folder: Path, at_second_commit: Callable[[Callable[[], Any]], None]
) -> None:
    moved = hublabel.output.with_name("moved")
    at_second_commit(lambda: hublabel.output.rename(moved))
    told_in_one_message(hublabel.run(*ONE_AFTER_THE_OTHER), f"{hublabel.output}: {GONE}")
    assert not hublabel.output.exists()
    moved.rename(hublabel.output)
    assert len(hublabel.parts()) == 1
    goes_on(hublabel, picture_folder, fingerprints(hublabel.output))


def test_an_output_that_another_takes_the_place_of(
    hublabel: Hublabel, picture_folder: Path, at_second_commit: Callable[[Callable[[], Any]], None]
) -> None:
    """The child notices nothing: the parent does, by the lock it holds."""
    moved = hublabel.output.with_name("moved")

    def replace() -> None:
        hublabel.output.rename(moved)
        hublabel.output.mkdir()

    at_second_commit(replace)
    told_in_one_message(hublabel.run(*ONE_AFTER_THE_OTHER), f"{hublabel.output}: {GONE}")
    assert not (hublabel.output / "_SUCCESS").exists()
    shutil.rmtree(hublabel.output)
    moved.rename(hublabel.output)
    goes_on(hublabel, picture_folder, fingerprints(hublabel.output))


@pytest.mark.parametrize("kind", REAL or ["fake"])
def test_an_output_whose_disk_is_unmounted(
    kind: str,
    request: pytest.FixtureRequest,
    hublabel: Hublabel,
    picture_folder: Path,
    at_second_commit: Callable[[Callable[[], Any]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The empty folder below the mount is not filled."""
    if kind == "fake":
        at_second_commit(lambda: monkeypatch.setattr(LocalStorage, "_found_disk", lambda _: -1))
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
        monkeypatch.undo()
        assert said.code == 1
        assert said.err.splitlines()[-1].endswith(f": it is no longer there; {MEND}")
        return
    folder = request.getfixturevalue("disk")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mount("--bind", str(folder), str(elsewhere))
    try:
        at_second_commit(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
        told_in_one_message(hublabel.run(*ONE_AFTER_THE_OTHER), f"{hublabel.output}: {GONE}")
        assert list(folder.iterdir()) == []
        mount("--bind", str(elsewhere), str(folder))
        goes_on(hublabel, picture_folder, fingerprints(hublabel.output))
    finally:
        unmount(elsewhere)


def test_parts_that_are_deleted_while_the_run_goes_on(
    hublabel: Hublabel, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import supervise

    finish = supervise._finish

    def delete_and_finish(*arguments: Any) -> None:
        hublabel.parts()[1].unlink()
        finish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(supervise, "_finish", delete_and_finish)
        said = hublabel.run(*ONE_AFTER_THE_OTHER)
    told_in_one_message(
        said,
        f"{hublabel.output}: parts have gone while the run went on: 6 of 10 rows are there; run the same command again",
    )
    assert not (hublabel.output / "_SUCCESS").exists()
    goes_on(hublabel, picture_folder, fingerprints(hublabel.output))


# The command itself, with its processes.


@pytest.mark.parametrize("size", ["160k"] if REAL else ["fake"])
def test_the_command_on_a_disk_that_is_too_small(
    size: str, request: pytest.FixtureRequest, colour_config: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(160):
        (photos / f"{number:03d}.png").write_bytes(picture_bytes(colour_of(number)))
    folder = tmp_path / "out"
    if size == "fake":  # a folder where no part can be written, and only they
        (folder / "predictions").mkdir(parents=True)
        (folder / "predictions/00000").write_text("in the way")
    else:
        folder = request.getfixturevalue("disk")
        mount("-o", f"remount,size={size}", str(folder))
    command = [sys.executable, "-m", "pipeline.cli", "run", str(colour_config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    begun, message = [line for line in done.stderr.splitlines() if line.startswith("hublabel: ")]
    assert begun == f"hublabel: {colour_config}"
    assert done.stderr.endswith(f"{message}\n")
    assert message.startswith(f"hublabel: {folder}/")
    if size == "fake":
        (folder / "predictions/00000").unlink()
    else:
        assert message.endswith(f": the disk is full; {MEND}")
        assert 0 < len(list(folder.glob("predictions/*/part-*"))) < 40
        mount("-o", "remount,size=2m", str(folder))
    kept = fingerprints(folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {name: fingerprints(folder)[name] for name in kept} == kept
    assert cli.main(["verify", str(folder)]) == 0
