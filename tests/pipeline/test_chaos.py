"""Ten kills of the chaos harness, and that the harness notices what it is there to notice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import chaos_checks as checks
from benchmarks.chaos import IMAGES, KINDS, chaos, make_schedule
from benchmarks.witness import Opening
from tests.pipeline.running import Hublabel, in_process, read_rows


@pytest.mark.timeout(900)  # each kill costs a start of TensorFlow
def test_ten_kills_leave_exactly_one_row_for_each_input(tmp_path: Path) -> None:
    verdict = chaos(tmp_path, kills=10, seed=1)
    assert verdict.problems == []
    assert verdict.delivered == dict.fromkeys(KINDS, 2)
    assert verdict.rows == verdict.nights * IMAGES > 0


def test_kills_come_at_all_moments() -> None:
    schedule = make_schedule(200, 0)
    assert {(kill.kind, kill.moment) for kill in schedule} == {
        (kind, moment)
        for kind in KINDS
        for moment in ("starting", "labelling", "finishing")
        if (kind, moment) != ("child", "finishing")
    }


@pytest.fixture
def two_outputs(
    picture_folder: Path, colour_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[Path, Path]:  # fmt: skip
    """A finished output, and a copy of it to tamper with."""
    (picture_folder / "003.png").write_bytes(b"broken")
    in_process(monkeypatch)
    Hublabel(colour_config, tmp_path / "out", capsys).labelled()
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    return tmp_path / "out", tmp_path / "copy"


def uris_of(output: Path) -> list[str]:
    return [row["uri"] for row in read_rows(output)]


def test_an_honest_copy_has_nothing_wrong(two_outputs: tuple[Path, Path]) -> None:
    output, copy = two_outputs
    assert checks.compare_rows(checks.read_rows(copy), checks.read_rows(output), uris_of(output)) == []
    assert checks.compare_trees(copy, output) == []
    assert checks.changed_parts(checks.part_identities(output), output) == []


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (lambda rows: rows[:-1], "9 rows for 10 inputs"),
        (lambda rows: [*rows[:-1], rows[-2]], "not each of them once"),
        (lambda rows: [{**rows[0], "label": "blue"}, *rows[1:]], "row 0: label is 'blue', not 'red'"),
        (lambda rows: [{**rows[0], "score": rows[0]["score"] - 2e-4}, *rows[1:]], "row 0: score is "),
        (lambda rows: [{**rows[0], "sha256": rows[1]["sha256"]}, *rows[1:]], "row 0: sha256 is "),
        (lambda rows: [*rows[:3], {**rows[3], "status": "ok"}, *rows[4:]], "row 3: status is 'ok', not 'failed'"),
        (lambda rows: [{**rows[0], "uri": rows[1]["uri"]}, *rows[1:]], "and the input is "),
    ],
)
def test_wrong_rows_are_noticed(
    two_outputs: tuple[Path, Path], tamper: Callable[[list[dict]], list[dict]], found: str
) -> None:
    output, _ = two_outputs
    rows = checks.read_rows(output)
    problems = checks.compare_rows(tamper(rows), rows, uris_of(output))
    assert any(found in problem for problem in problems)


def test_what_is_left_behind_is_noticed(two_outputs: tuple[Path, Path]) -> None:
    output, copy = two_outputs
    (copy / "predictions" / "00000" / ".tmp-part").touch()
    (copy / "_SUCCESS").unlink()
    assert checks.compare_trees(copy, output) == ["predictions/00000/.tmp-part: left behind", "_SUCCESS: missing"]


def test_the_next_run_removes_what_killed_ones_have_left(
    two_outputs: tuple[Path, Path], colour_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, copy = two_outputs
    names = (
        ".tmp-report.json-1",
        ".tmp-run.yaml-2",
        "predictions/00000/.tmp-part-00000.parquet-3",
        "attempts/00000/.tmp-4",
    )
    (output / "attempts" / "00000").mkdir(parents=True, exist_ok=True)
    for name in names:
        (output / name).write_bytes(b"half a")
    (output / "_SUCCESS").unlink()
    Hublabel(colour_config, output, capsys).labelled()
    left = checks.compare_trees(output, copy)
    assert [name for name in left if not name.startswith("attempts")] == []
    assert list(output.rglob(".tmp-*")) == []


def test_a_touched_part_is_noticed(two_outputs: tuple[Path, Path]) -> None:
    output, _ = two_outputs
    before = checks.part_identities(output)
    parts = sorted(output.glob("predictions/*/*.parquet"))
    data = parts[0].read_bytes()
    parts[0].unlink()
    parts[0].write_bytes(data)
    parts[1].unlink()
    names = [part.relative_to(output).as_posix() for part in parts]
    assert checks.changed_parts(before, output) == [
        f"{names[1]}: committed, and gone later",
        f"{names[0]}: changed after its commit",
    ]


def test_work_done_twice_is_noticed() -> None:
    parts = [checks.Part(("a", "b"), 100.0, (1, 1, 1)), checks.Part(("b", "c"), 200.0, (2, 2, 2))]
    openings = [
        Opening(99.0, 1, "m", "a"),
        Opening(99.0, 1, "m", "b"),
        Opening(150.0, 2, "m", "b"),
        Opening(150.0, 2, "m", "c"),
    ]
    assert checks.read_again(openings, parts) == []
    late = [Opening(150.5, 2, "m", "a"), Opening(200.25, 2, "m", "b")]
    assert checks.read_again([*openings, *late], parts) == [
        "a: opened 50.500 s after its commit",
        "b: opened 0.250 s after its commit",
    ]
    assert checks.recomputed([*openings, *late], rows=4, kills=1, shard_size=2) == (2, [])
    most = checks.IN_FLIGHT * 2
    assert checks.recomputed(openings * 10, rows=40 - most, kills=1, shard_size=2) == (most, [])
    assert checks.recomputed(openings * 10, rows=39 - most, kills=1, shard_size=2) == (
        most + 1,
        [f"{most + 1} images were computed again, and no more than {most} were in flight"],
    )
