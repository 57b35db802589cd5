from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.large_output import make_large_output, make_truth, uri_of
from pipeline.evaluation.judged import judged
from pipeline.verify import verify
from transforms.storage import LocalStorage


def test_it_is_what_a_run_leaves(tmp_path: Path) -> None:
    record = make_large_output(tmp_path / "out", 3000)
    checks = {check.what: check.problems for check in verify(LocalStorage(str(tmp_path / "out")), record)}
    unfinished = checks.pop("report.json, _SUCCESS")
    assert unfinished == ["no _SUCCESS: all rows are there, the run was not finished; run it again"]
    assert not any(checks.values()), checks
    make_truth(tmp_path / "truth.parquet", 3000)
    assert pq.read_table(tmp_path / "truth.parquet")["uri"][2999].as_py() == uri_of(2999)
    with judged(LocalStorage(str(tmp_path / "out")), record, str(tmp_path / "truth.parquet"), None, None) as found:
        assert (found.images, found.unknown, found.unused) == (3000, 0, 0)
