"""EfficientNet-Lite0 over 200 labelled photos: accuracy, resuming after a kill, and who can read the output."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.running import fingerprints, parts_of, read_rows
from transforms.engines.processor import has_bfloat16

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = CHECKOUT.parent / "shared" / "imagenet_sample"
ACCURACY = 0.87
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


def command(output: Path, *overrides: str) -> list[str]:
    sets = [f"input.path={SAMPLE}/images", f"output.path={output}", *overrides]
    arguments = [argument for pair in sets for argument in ("--set", pair)]
    return [sys.executable, "-m", "pipeline.cli", "run", "configs/quickstart.yaml", *arguments]


def run(output: Path, *overrides: str) -> str:
    """Standard output of a run that must succeed."""
    return said_by(command(output, *overrides))


def said_by(command: list[str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def truth() -> dict[str, int]:
    """Class of each photo by the name of its file."""
    with open(SAMPLE / "truth.csv", newline="", encoding="utf-8") as file:
        return {Path(row["uri"]).name: int(row["label_index"]) for row in csv.DictReader(file)}


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Every photo has exactly one row, and enough of them the right class."""
    expected = truth()
    assert len(rows) == len(expected) == 200
    assert sorted(Path(row["uri"]).name for row in rows) == sorted(expected)
    assert [row["row"] for row in rows] == list(range(200))
    assert [row["uri"] for row in rows if row["status"] != "ok"] == []
    right = sum(row["label_index"] == expected[Path(row["uri"]).name] for row in rows)
    assert right >= ACCURACY * len(rows), f"{right} of {len(rows)} right"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run."""
    output = tmp_path_factory.mktemp("photos") / "out"
    assert "200 images: 200 labelled, 0 failed" in run(output)
    return output


def test_every_photo_has_one_row_and_most_are_right(labelled: Path) -> None:
    check_rows(read_rows(labelled))


def test_evaluate_counts_what_the_rows_say(labelled: Path, tmp_path: Path) -> None:
    expected = truth()
    rows = read_rows(labelled)
    right = [row for row in rows if row["label_index"] == expected[Path(row["uri"]).name]]
    among = [row for row in rows if expected[Path(row["uri"]).name] in {best["label_index"] for best in row["top_k"]}]
    for column in ("label_index", "wnid"):
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "evaluate",
            str(labelled),
            "--truth",
            str(SAMPLE / "truth.csv"),
        ]
        command += ["--column", column, "--json", "--html", str(tmp_path / "page.html")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["top_1"]["count"], found["top_5"]["count"]) == (len(right), len(among))
        assert (found["images"], found["truth"]["found_by"]) == (200, "uri")
        assert len(found["mistakes"]) == 200 - len(right)
        page = (tmp_path / "page.html").read_text()
        assert page.count('<img src="data:image/webp') == 200 - len(right)


def test_the_report_holds_forty_photos(labelled: Path) -> None:
    page = (labelled / "report.html").read_text()
    assert 25 <= page.count('<img src="data:image/webp') <= 40
    assert len(page) < 2_000_000


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_another_engine_gives_the_same_labels(labelled: Path, tmp_path: Path, precision: str) -> None:
    output = tmp_path / "out"
    said = run(output, "model.engine=openvino", f"model.precision={precision}")
    assert "200 images: 200 labelled, 0 failed" in said
    rows, expected = read_rows(output), read_rows(labelled)
    check_rows(rows)
    same = sum(row["label_index"] == right["label_index"] for row, right in zip(rows, expected, strict=True))
    differences = [abs(row["score"] - right["score"]) for row, right in zip(rows, expected, strict=True)]
    if precision == "float32":
        assert same == 200
        assert max(differences) < 1e-5
        assert not (output / "agreement.json").exists()
        return
    agreement = json.loads((output / "agreement.json").read_text())
    assert agreement["images"] > 100
    assert agreement["top1"] >= 0.95
    assert same >= 0.95 * 200
    assert 1e-5 < max(differences) < 0.2


def test_an_8_bit_model_labels_nearly_as_well(labelled: Path, tmp_path: Path) -> None:
    model, output = tmp_path / "int8", tmp_path / "out"
    sample = ["--set", f"input.path={SAMPLE}/images"]
    quantize = [sys.executable, "-m", "pipeline.cli", "quantize", "configs/quickstart.yaml", *sample]
    done = subprocess.run(
        [*quantize, "--output", str(model)], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    said = run(output, f"model.handle={model}", "model.engine=openvino", "model.precision=int8")
    assert "200 images: 200 labelled, 0 failed" in said
    rows = read_rows(output)
    check_rows(rows)
    same = sum(row["label_index"] == right["label_index"] for row, right in zip(rows, read_rows(labelled), strict=True))
    assert 0.92 * 200 <= same < 200
    assert json.loads((output / "agreement.json").read_text())["top1"] >= 0.9


def test_duckdb_pandas_and_polars_read_the_folder(labelled: Path) -> None:
    import duckdb
    import pandas
    import polars

    folder = labelled / "predictions"
    expected = [(row["row"], row["label"], row["score"]) for row in read_rows(labelled)]
    query = f"select row, label, score from read_parquet('{folder}/**/*.parquet') order by row"
    assert duckdb.sql(query).fetchall() == expected
    frame = pandas.read_parquet(folder).sort_values("row")
    assert list(frame[["row", "label", "score"]].itertuples(index=False, name=None)) == expected
    assert polars.read_parquet(folder).sort("row").select("row", "label", "score").rows() == expected
    best = duckdb.sql(f"select count(*) from read_parquet('{folder}/**/*.parquet') where top_k[1].label = label")
    assert best.fetchall() == [(200,)]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, labelled: Path) -> None:
    output = tmp_path / "out"
    small = ["run.shard_size=16", "batch.size=16"]
    process = subprocess.Popen(
        command(output, *small), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CHECKOUT,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(parts_of(output)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = fingerprints(output)
    assert 3 <= len(before) < 13
    said = run(output, *small)  # at once; it waits until the orphaned child has ended
    assert "200 images: 200 labelled, 0 failed" in said
    assert before.items() <= fingerprints(output).items()  # the parts of before are untouched
    check_rows(read_rows(output))
    labels = [row["label_index"] for row in read_rows(output)]
    assert labels == [row["label_index"] for row in read_rows(labelled)]
    assert len(parts_of(output)) == 13
