"""What the comparison with other software computes, and what it is made of."""

import ast
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.measured import Cost
from benchmarks.peers import environments
from benchmarks.peers.__main__ import peers_table
from benchmarks.peers.damaged import PHOTOS, outcome, photos_with_one_cut_short
from benchmarks.peers.scripts import PEERS, read_timings

FOLDER = Path(environments.__file__).parent


def cost(seconds: float, rate: float) -> Cost:
    return Cost(seconds, 2 * seconds, 1.0, rate, 0, 1000 * 2**20)


def test_each_peer_is_compared_with_both_engines() -> None:
    costs = {"hublabel": [cost(10, 100)], "hublabel, OpenVINO": [cost(8, 150)], "ray_data": [cost(20, 50)]}
    lines = peers_table(costs, dict.fromkeys(costs, 0.975), dict.fromkeys(costs, "lost")).splitlines()
    assert lines[2] == "| hublabel | 10.0 |  |  | 100 |  |  | 20.0 | 1,000 | 97.5% | lost |"
    assert lines[4] == (
        "| Ray Data 2.60.0 | 20.0 | **2.00** | **2.50** | 50 | **2.00** | **3.00** | 40.0 | 1,000 | 97.5% | lost |"
    )


def test_without_openvino_its_columns_are_empty() -> None:
    costs = {"hublabel": [cost(10, 100)], "daft_frame": [cost(20, 50)]}
    lines = peers_table(costs, dict.fromkeys(costs, 1.0), dict.fromkeys(costs, "lost")).splitlines()
    assert lines[3].startswith("| Daft 0.7.26 | 20.0 | **2.00** |  | 50 | **2.00** |  |")


def test_timings_add_up(tmp_path: Path) -> None:
    (tmp_path / "timings.txt").write_text("32 100.5\n8 101.25\n")
    assert read_timings(tmp_path / "timings.txt") == [(32, 100.5), (40, 101.25)]


def write(folder: Path, labels: dict[str, str | None]) -> Path:
    folder.mkdir()
    pq.write_table(
        pa.table({"uri": list(labels), "label": pa.array(labels.values(), pa.string())}), folder / "a.parquet"
    )
    return folder


def test_the_fate_of_a_damaged_photo(tmp_path: Path) -> None:
    good: dict[str, str | None] = {f"{number}.jpg": "cat" for number in range(PHOTOS - 1)}
    assert outcome(write(tmp_path / "a", {**good, "bad.jpg": None}), "bad.jpg", False) == "a row that says why"
    assert outcome(write(tmp_path / "b", {**good, "bad.jpg": "dog"}), "bad.jpg", False) == "a label like any other"
    assert outcome(write(tmp_path / "c", good), "bad.jpg", False) == "its row is missing, 63 of 64 are there"
    assert outcome(write(tmp_path / "d", {"bad.jpg": None}), "bad.jpg", False) == "63 other rows are missing"
    assert (
        outcome(write(tmp_path / "e", {"1.jpg": "cat"}), "bad.jpg", True) == "the job fails, with 1 of 64 rows written"
    )


@pytest.mark.slow
def test_an_environment_is_made_once_for_its_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "peer.txt").write_text("# nothing\n")
    python = environments.environment("peer", tmp_path / "made")
    assert python == tmp_path / "made" / "peer" / "bin" / "python"
    before = python.parent.stat().st_ino
    environments.environment("peer", tmp_path / "made")
    assert python.parent.stat().st_ino == before
    (tmp_path / "peer.txt").write_text("# nothing else\n")
    (python.parent / "left behind").touch()
    environments.environment("peer", tmp_path / "made")
    assert python.exists()
    assert not (python.parent / "left behind").exists()


def test_one_photo_is_cut_short(tmp_path: Path) -> None:
    photos, bad = photos_with_one_cut_short(tmp_path / "photos")
    assert len(list(photos.iterdir())) == PHOTOS
    assert [path.name for path in photos.iterdir() if not path.is_symlink()] == [bad]


@pytest.mark.parametrize("peer", PEERS)
def test_every_requirement_of_a_peer_is_pinned(peer: str) -> None:
    lines = (FOLDER / "requirements" / f"{peer}.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) > 4
    assert [line for line in pinned if not re.match(r"^[\w.-]+(\[\w+\])?==[\w.]+( ; .*)?$", line)] == []
    assert environments.version(peer, PEERS[peer].package)


@pytest.mark.parametrize("peer", [*PEERS, "task"])
def test_scripts_import_nothing_of_ours(peer: str) -> None:
    tree = ast.parse((FOLDER / f"{peer}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not {module.split(".")[0] for module in modules if module} & {"benchmarks", "pipeline", "transforms"}
