"""`hublabel run` as a process of its own: the first line, what its parent never imports, and a rough manifest."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import COLOURS, colour_of, picture_bytes
from tests.pipeline.running import fingerprints, read_rows

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "{'tensorflow', 'tensorflow_hub', 'tensorflow_io', 'apache_beam', 'pyarrow', 'pandas', 'numpy', 'keras'}"

FIRST_LINE = f"""
import sys
from rich.console import Console

def first_line(self, *objects, **options):
    print(*objects)
    print(sorted({HEAVY} & set(sys.modules)))
    sys.exit(7)

Console.print = first_line
from pipeline.cli import main
main(["run", "some.yaml"])
"""

WHOLE_RUN = """
import sys
from pipeline.cli import main
code = main(sys.argv[1:])
print(sorted({'tensorflow', 'tensorflow_hub', 'tensorflow_io', 'apache_beam', 'keras', 'pandas'} & set(sys.modules)))
sys.exit(code)
"""


def test_the_first_line_waits_for_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LINE], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "hublabel: some.yaml\n[]\n", done.stderr
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.yaml"], "hublabel: nowhere.yaml: the config cannot be read: No such file or directory\n"),
        (["run"], "the following arguments are required: CONFIG"),
        (["label"], "invalid choice: 'label'"),
        ([], "the following arguments are required: COMMAND"),
        (["run", "x.yaml", "--limit", "many"], "argument --limit: invalid int value: 'many'"),
    ],
)
def test_bad_usage_ends_with_2(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def ended(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False, env=environment, **options)


def test_the_command_ends_without_pythons_finalization() -> None:
    """In which native libraries' threads, still at work, may end the process by a signal."""
    code = """
import atexit, sys
from pipeline import cli
atexit.register(print, "finalized")
cli.main = lambda: print("done") or 3
cli.command()
"""
    done = ended(code, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_output_that_cannot_be_written_is_told_at_the_end() -> None:
    with open("/dev/full", "w") as full:
        done = ended("from pipeline import cli; cli.main = lambda: print('done') or 0; cli.command()", stdout=full)
    assert (done.returncode, done.stderr) == (1, "hublabel: the disk is full\n")


def test_a_reader_that_has_gone_is_told_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as gone:
        done = ended("from pipeline import cli; cli.main = lambda: print('done') or 0; cli.command()", stdout=gone)
    assert (done.returncode, done.stderr) == (1, "")


def obey_permissions() -> None:
    """Let root, too, be refused: without these capabilities permissions hold for it as for another user."""
    cap_dac_override, cap_dac_read_search, pr_capbset_drop = 1, 2, 24
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (cap_dac_override, cap_dac_read_search):
            if libc.prctl(pr_capbset_drop, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "cannot drop a capability")


# What is made of a path, the row's error, and what it tells.
BROKEN = {
    "empty.jpg": ("decode", "empty", "the file is empty"),
    "cut.jpg": ("decode", "truncated", "the JPEG ends before its picture is complete, after "),
    "cut.png": ("decode", "truncated", "the PNG ends before its picture is complete, after 50 bytes"),
    "text.jpg": ("decode", "unsupported_format", "not a picture in a known format: it looks like text"),
    "page.png": ("decode", "unsupported_format", "not a picture in a known format: it looks like an HTML page"),
    "folder.jpg": ("read", "is_a_directory", "is a directory"),
    "missing.jpg": ("read", "not_found", "no such file"),
    "dangling.jpg": ("read", "not_found", "no such file"),
    "pipe.jpg": ("read", "not_a_file", "not a regular file"),
    "secret.jpg": ("read", "permission_denied", "no permission to read the file"),
}


def make_broken(folder: Path) -> None:
    """A broken file of each name in BROKEN."""
    folder.mkdir()
    picture = picture_bytes((200, 10, 10), (64, 64), "JPEG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(picture[:-10])
    (folder / "cut.png").write_bytes(picture_bytes((200, 10, 10))[:50])
    (folder / "text.jpg").write_text("This is no picture, whatever its name says.\n" * 20)
    (folder / "page.png").write_text("<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n")
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "secret.jpg").write_bytes(picture)
    (folder / "secret.jpg").chmod(0)


def test_a_manifest_with_broken_paths(tmp_path: Path, colour_config: Path, picture_folder: Path) -> None:
    make_broken(tmp_path / "broken")
    good = [picture_folder / f"{n % 10:03d}.png" for n in range(40)]
    broken = [tmp_path / "broken" / name for name in BROKEN]
    uris = [path for five in zip(broken, good[:10], good[10:20], good[20:30], good[30:], strict=True) for path in five]
    (tmp_path / "uris.txt").write_text("".join(f"{uri}\n" for uri in uris))
    command = [
        sys.executable, "-c", WHOLE_RUN, "run", str(colour_config), "--set", f"input.path={tmp_path}/uris.txt",
    ]  # fmt: skip

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, preexec_fn=obey_permissions, check=False)
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "out")
    assert [(row["row"], row["uri"]) for row in rows] == [(n, str(uri)) for n, uri in enumerate(uris)]
    for row in rows:
        name = Path(row["uri"]).name
        if name in BROKEN:
            assert (row["status"], row["label"]) == ("failed", None)
            stage, kind, message = BROKEN[name]
            assert (row["error_stage"], row["error_type"]) == (stage, kind)
            assert row["error_message"].startswith(message)
        else:
            colour = colour_of(int(name[:3]))
            assert (row["status"], row["label"]) == ("ok", COLOURS[colour.index(max(colour))])
    assert "50 images: 40 labelled, 10 failed\n" in done.stdout
    assert "  3 decode/truncated\n" not in done.stdout
    assert "  2 decode/truncated\n" in done.stdout
    assert done.stdout.endswith("\n[]\n")  # the parent has imported neither TensorFlow nor Beam
    said = done.stderr.splitlines()
    assert said[:2] == [f"hublabel: {colour_config}", "50 images in 13 shards"]
    assert [line for line in said if "tensorflow" in line.lower() or "warning" in line.lower()] == []
    assert (tmp_path / "out" / "run.log").exists()

    before = fingerprints(tmp_path / "out")
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert again.returncode == 0
    assert "nothing to do: every image has its row already\n" in again.stdout
    assert fingerprints(tmp_path / "out") == before
