"""Workers of a Flink cluster plan the list that they label afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.flink.session import Session
from pipeline.record import load_record
from tests.flink.labelling import IMAGES, FlinkRun, Pictures
from transforms.storage import LocalStorage


class PlannedByWorkers(FlinkRun):
    def _places(self) -> dict[str, Any]:
        return {**super()._places(), "run.planning": "runner"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_rows_are_those_of_the_launchers_plan(session: Session, pictures: Pictures) -> None:
    run = PlannedByWorkers(pictures, session, "planned-by-workers")
    assert run.wait() == 0, run.said()
    assert run.problems() == []
    storage = LocalStorage(str(run.output))
    record = load_record(storage, storage.root)
    assert record is not None
    assert record.plan.rows == IMAGES
    assert all(file.fingerprint for file in record.plan.files)  # which the launcher's have not
    assert not storage.exists("plan.partial")
