from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashing import HANG, SEGFAULT, deadly_open_picture
from tests.pictures import colour_of, picture_bytes
from transforms.isolation import IsolatedWork, IsolationError, label_isolated
from transforms.model import ModelSpec
from transforms.preprocessing import Preprocessing
from transforms.records import Columns, Row


def work_with(model: Path) -> IsolatedWork:
    spec = Preprocessing(height=8, width=8, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    loaded = ModelSpec(str(model), "serving_default", None, (("logits", "output"),), (8, 8, 3), "float32", 4)
    return IsolatedWork(spec, loaded, "softmax", Columns(top_k=1), decode=deadly_open_picture)


def test_the_guilty_image_is_a_failed_row_and_its_neighbours_are_labelled(tmp_path: Path, colour_model: Path) -> None:
    endings = {2: SEGFAULT, 5: HANG}
    rows = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture_bytes(colour_of(number)) + endings.get(number, b""))
        rows.append(Row(100 + number, number, str(path)))
    rows.append(Row(107, 7, str(tmp_path / "missing.png")))
    found = list(label_isolated(rows, work_with(colour_model), timeout=3))
    assert [row.position for row in found] == list(range(8))
    assert {row.position: row.error_type for row in found if row.error_type} == {
        2: "crashed", 5: "timeout", 7: "not_found",
    }  # fmt: skip
    assert found[2].error_message == "the process that decoded it died (SIGSEGV)"
    for position in (0, 1, 3, 4, 6):
        classes, scores = found[position].classes, found[position].scores
        assert classes is not None
        assert scores is not None
        assert classes.tolist() == [position % 3]
        assert scores[0] > 0.9
        assert (found[position].width, found[position].height) == (20, 16)


def test_a_process_that_cannot_start_is_no_images_fault(tmp_path: Path) -> None:
    with pytest.raises(IsolationError, match="cannot be started"):
        list(label_isolated([Row(0, 0, "a.png")], work_with(tmp_path / "no model"), timeout=3))
