"""A config cannot run code; archives and lists of images write nowhere; nothing tells the credentials of URIs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import cli
from pipeline.config_source import parse_yaml
from pipeline.errors import UsageError
from pipeline.record import load_record
from pipeline.resolve import resolve_model
from tests.outputs import make_output
from tests.pipeline.running import Hublabel
from transforms.programs import program
from transforms.storage import LocalStorage

SECRET = "S3CR3T"

# A URI of each kind, none of which can be read.
LEAKY = [
    f"https://user:{SECRET}@127.0.0.1:9/a.jpg",
    f"https://{SECRET}@127.0.0.1:9/a.jpg",
    f"http://127.0.0.1:9/a.jpg?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}",
    f"http://127.0.0.1:9/a.jpg?AWSAccessKeyId={SECRET}&Signature={SECRET}&Expires=1",
    f"http://127.0.0.1:9/a.jpg?GoogleAccessId={SECRET}&Signature={SECRET}",
    f"http://127.0.0.1:9/a.jpg?sv=2022-11-02&se=2024&sp=r&sig={SECRET}",
    f"http://127.0.0.1:9/a.jpg?w=1&access_token={SECRET}#token={SECRET}",
    f"http://127.0.0.1:99999999/a.jpg?key={SECRET}",
    f"http://[bad/a.jpg?key={SECRET}",
    f"ftp://user:{SECRET}@host/a.jpg",
    f"file://user:{SECRET}@host/a.jpg",
    f"nowhere://user:{SECRET}@host/a.jpg?token={SECRET}",
]


# What the working directory can do.


@pytest.mark.slow
def test_files_of_the_working_directory_are_not_run(
    colour_config: Path, picture_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whose names are those of our packages, or of what we import."""
    assert picture_folder.parent == colour_config.parent
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("json", "numpy", "pipeline", "random", "tensorflow", "transforms"):
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the working directory was run')\n")
    for command in ("check", "run"):
        done = subprocess.run(
            program("pipeline.cli", command, str(colour_config)),
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.suffix for path in folder.iterdir()} == {".py"}


# What a config can do.


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch owned]",
        "!!python/object/new:os.system [touch owned]",
        "!!python/object:os.system {}",
        "!!python/name:os.system x",
        "!!python/module:os x",
        "!!python/tuple [1, 2]",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [touch owned]",
        "!custom x",
    ],
)
def test_no_tag_of_a_config_or_of_run_yaml_is_obeyed(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="could not determine a constructor for the tag"):
        parse_yaml(f"input: {{path: {tag}}}", "c.yaml")
    assert cli.main(["run", "none.yaml", "--set", f"image.size={tag}"]) == 2
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.yaml").write_text(f"format: 1\nconfig: {tag}\n")
    with pytest.raises(UsageError, match="damaged"):
        load_record(LocalStorage("out"), "out")
    assert cli.main(["verify", "out"]) == 1
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["run.yaml"]


def test_values_of_a_config_are_never_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What looks like a command or a template is a name that is not there."""
    monkeypatch.chdir(tmp_path)
    for path in ("$(touch owned)", "`touch owned`", "|touch owned", "{0.__class__}", "%(path)s"):
        values = {"input": {"path": path}, "model": {"handle": "m"}, "output": {"path": "out"}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
        assert cli.main(["run", "c.yaml"]) in (1, 2)
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


# What archives can do.


def archive_of(path: Path, *members: tarfile.TarInfo, data: bytes = b"owned") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o777
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../owned")],
        [member("a/../../owned")],
        [member("link", tarfile.SYMTYPE, ".."), member("link/owned")],
        [member("link", tarfile.SYMTYPE, "ABSOLUTE"), member("link/owned")],
        [member("a", tarfile.SYMTYPE, "."), member("a/b", tarfile.SYMTYPE, ".."), member("a/b/owned")],
        [member("owned", tarfile.LNKTYPE, "../victim")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
)
def test_an_archive_cannot_write_outside_its_place(
    members: list[tarfile.TarInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache / "hub"))
    (tmp_path / "victim").write_text("mine")
    for info in members:
        info.linkname = info.linkname.replace("ABSOLUTE", str(tmp_path))
    archive = archive_of(tmp_path / "model.tar.gz", *members, member("saved_model.pb"))
    with pytest.raises(UsageError, match=r"model\.handle: .*model\.tar\.gz"):
        resolve_model(str(archive))
    assert sorted(path.name for path in tmp_path.iterdir() if path != cache) == ["model.tar.gz", "victim"]
    assert (tmp_path / "victim").read_text() == "mine"
    assert not list(cache.rglob("owned"))
    assert not list(cache.rglob("saved_model.pb"))


def test_an_absolute_name_in_an_archive_is_taken_as_a_relative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache/hub"))
    archive = archive_of(tmp_path / "model.tar.gz", member(f"{tmp_path}/owned"), member("saved_model.pb"))
    resolve_model(str(archive))
    assert not (tmp_path / "owned").exists()
    assert len(list((tmp_path / "cache").rglob("owned"))) == 1


# What lists of images can do.


@pytest.fixture
def leaky_list(tmp_path: Path, picture_folder: Path) -> Path:
    """URIs with credentials, all of which fail, and good pictures."""
    path = tmp_path / "list.txt"
    path.write_text("\n".join([*LEAKY, *(str(picture) for picture in sorted(picture_folder.iterdir()))]) + "\n")
    return path


def test_a_list_of_images_writes_nothing_anywhere(hublabel: Hublabel, tmp_path: Path, picture_folder: Path) -> None:
    uris = [
        "../../escape.png", "/etc/passwd", "file:///etc/passwd", "photos/../../escape.png", "photos/000.png; touch x",
        "$(touch owned).png", "|touch owned", "predictions/00000/part-00000.parquet", "out/run.yaml", ".", "/dev/null",
        "%2e%2e%2fescape.png", "file:///%2e%2e/escape.png", "-rf", "~/escape.png", "é" * 300, "a" * 5_000,
    ]  # fmt: skip
    (tmp_path / "list.txt").write_text("\n".join([*uris, str(picture_folder / "000.png")]) + "\n")

    def outside() -> set[tuple[str, int]]:
        paths = [path for path in tmp_path.rglob("*") if hublabel.output not in (path, *path.parents)]
        return {(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()}

    before = outside()
    above = set(os.listdir(tmp_path.parent))
    rows = hublabel.labelled("--set", f"input.path={tmp_path}/list.txt")
    assert [row["status"] for row in rows] == ["failed"] * len(uris) + ["ok"]
    assert outside() == before
    assert set(os.listdir(tmp_path.parent)) == above
    assert sorted(path.name for path in hublabel.output.iterdir() if path.name != "attempts") == [
        ".lock", "_SUCCESS", "plan", "predictions", "report.json", "run.log", "run.yaml",
    ]  # fmt: skip


# What messages, logs and reports tell.


def contents(output: Path, with_uris: bool) -> dict[str, str]:
    """Everything in an output but the plan, by file; of the parts all columns, or all but `uri`."""
    found = {}
    for path in output.rglob("*"):
        if not path.is_file() or path.parent.name == "plan":
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            found[path.name] = str((table if with_uris else table.drop_columns(["uri"])).to_pylist())
            found[path.name] += str(pq.read_schema(path).metadata)
        else:
            found[path.name] = path.read_bytes().decode(errors="replace")
    return found


def test_nothing_tells_credentials(hublabel: Hublabel, leaky_list: Path) -> None:
    said = hublabel.run("--set", f"input.path={leaky_list}", "--set", "report.html=true")
    assert said.code == 0, said.err
    assert SECRET not in said.out + said.err
    rows = hublabel.rows()
    assert [row["uri"] for row in rows[: len(LEAKY)]] == LEAKY
    assert {row["status"] for row in rows[: len(LEAKY)]} == {"failed"}
    found = contents(hublabel.output, with_uris=False)
    assert {"run.yaml", "run.log", "report.json", "report.html", "part-00000.parquet"} <= set(found)
    assert [name for name, text in found.items() if SECRET in text] == []


def test_the_command_with_stripped_uris_leaves_credentials_in_the_plan_alone(
    colour_config: Path, leaky_list: Path, tmp_path: Path
) -> None:
    """The whole command, whose pipeline logs to run.log; Python code in it prints what it likes."""
    command = [sys.executable, "-m", "pipeline.cli", "run", str(colour_config)]
    command += ["--set", f"input.path={leaky_list}", "--set", "output.uri=stripped", "--set", "output.path=out"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    # What a library might log, in the pipeline's process alone.
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import sys, threading, time
def chatter():
    while "transforms.write_shards" not in sys.modules: time.sleep(0.05)
    import logging
    for uri in {LEAKY!r}:
        print("a library prints", uri)
        logging.getLogger("a library").error("cannot reach %s", uri)
    raise ValueError("a thread dies of {LEAKY[0]}")
if "pipeline.child" in sys.orig_argv: threading.Thread(target=chatter, daemon=True).start()
"""
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    found = contents(tmp_path / "out", with_uris=True)
    assert [name for name, text in found.items() if SECRET in text] == []
    assert found["run.log"].count("a library prints") == len(LEAKY)
    assert found["run.log"].count("cannot reach") == len(LEAKY)
    assert "a thread dies of https://***@127.0.0.1:9/a.jpg" in found["run.log"]
    assert "https://127.0.0.1:9/a.jpg" in found["part-00000.parquet"]
    assert cli.main(["verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    "override",
    [
        f"input.path=https://user:{SECRET}@127.0.0.1:9/list.txt",
        f"input.path=https://{'user' * 20}:{SECRET * 20}@127.0.0.1:9/list.txt",
        f"input.path=[a.txt, 'https://h/{'a' * 60}?sig={SECRET}']",
        f"model.handle=nowhere://user:{SECRET}@host/model",
        f"model.labels=https://user:{SECRET}@127.0.0.1:9/labels.txt",
        f"output.path=https://user:{SECRET}@127.0.0.1:9/out",
        f"output.path=nowhere://user:{SECRET}@host/out",
        f"image.size=https://user:{SECRET * 30}@127.0.0.1:9/",
        f"'https://user:{SECRET}@h/'=1",
        f"image.https://user:{SECRET}@h/=1",
    ],
)
def test_messages_of_what_is_refused(override: str, hublabel: Hublabel) -> None:
    said = hublabel.run("--set", override)
    assert said.code in (1, 2)
    assert "Traceback" not in said.err
    assert SECRET not in said.out + said.err


def test_usage_errors_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "a.yaml", f"https://user:{SECRET}@h/?sig={SECRET}"])
    assert SECRET not in capsys.readouterr().err


def test_the_command_that_goes_on_is_told_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.run import _same_command

    monkeypatch.setattr(sys, "argv", ["hublabel", "run", "c.yaml", "--set", f"input.path=https://u:{SECRET}@h/l.txt"])
    assert _same_command() == "hublabel run c.yaml --set input.path=https://***@h/l.txt"


def test_show_prints_no_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_output(tmp_path / "out")
    capsys.readouterr()
    assert cli.main(["show", str(made.path)]) == 0
    out = capsys.readouterr().out
    assert "9.png" in out
    assert "sig" not in out
    assert "pw" not in out


def test_a_signature_may_change_between_a_run_and_its_resumption(colour_config: Path) -> None:
    from pipeline.config import load_config
    from pipeline.record import differences, make_pins

    def pins(path: str) -> dict[str, object]:
        return make_pins(load_config(colour_config, [f"input.path={path}"]), str(colour_config.parent), {})

    first = pins(f"https://host/list.txt?sig={SECRET}")
    assert SECRET not in str(first)
    assert differences(first, pins("https://host/list.txt?sig=other")) == []
    assert differences(first, pins("https://host/other.txt?sig=other")) != []
