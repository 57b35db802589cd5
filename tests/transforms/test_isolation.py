from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crashing import HANG, LATER, SEGFAULT, deadly_open_picture, deadly_read
from tests.pictures import colour_of, picture_bytes
from tests.saved_models import SIZE, image_spec, means, save_signature
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


def test_with_a_model_of_one_batch_size(tmp_path: Path) -> None:
    model = save_signature(tmp_path / "model", lambda input: {"output": means(input)}, image_spec(batch=2))
    work = work_with(model)
    taken = replace(work.model, image_shape=(SIZE, SIZE, 3), batch_size=2)
    work = replace(work, spec=replace(work.spec, height=SIZE, width=SIZE), model=taken)
    rows = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture_bytes(colour_of(number)) + (SEGFAULT if number == 1 else b""))
        rows.append(Row(number, number, str(path)))
    found = list(label_isolated(rows, work, timeout=30))
    assert [row.error_type for row in found] == [None, "crashed", None]
    assert [row.classes.tolist() for row in found if row.classes is not None] == [[0], [2]]


def test_the_stage_is_the_one_that_the_process_died_in(tmp_path: Path) -> None:
    import tensorflow as tf

    def loop(input: Any) -> dict[str, Any]:
        """Answers never where all of a picture is white."""
        [turns] = tf.while_loop(lambda _: tf.reduce_min(input) > 254.0, lambda i: [i + 1.0], [0.0])
        return {"output": means(input) + turns}

    model = save_signature(tmp_path / "model", loop)
    spec = Preprocessing(height=SIZE, width=SIZE, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    loaded = ModelSpec(str(model), "serving_default", None, (("logits", "output"),), (SIZE, SIZE, 3), "float32", 1)
    work = IsolatedWork(spec, loaded, "softmax", Columns(1), read=deadly_read, decode=deadly_open_picture)
    white, colour = picture_bytes((255, 255, 255)), picture_bytes(colour_of(0))
    files = {"0.png": colour, "deadly.png": colour, "2.png": white, "3.png": white + LATER, "4.png": colour + SEGFAULT}
    rows = []
    for number, (name, data) in enumerate(files.items()):
        (tmp_path / name).write_bytes(data)
        rows.append(Row(number, number, str(tmp_path / name)))
    found = list(label_isolated(rows, work, timeout=5))
    assert [(row.error_stage, row.error_type, row.error_message) for row in found] == [
        (None, None, None),
        ("read", "crashed", "the process that read it died (SIGSEGV)"),
        ("model", "timeout", "gave up after 5 seconds"),
        ("model", "crashed", "the process that ran the model on it died (SIGALRM)"),
        ("decode", "crashed", "the process that decoded it died (SIGSEGV)"),
    ]
    # What was known of an image by then, its row has.
    assert [row.bytes for row in found] == [len(data) if name != "deadly.png" else None for name, data in files.items()]
    assert [row.format for row in found] == ["png", None, "png", "png", None]
    assert found[3].width == found[0].width == 20


def test_a_process_that_cannot_start_is_no_images_fault(tmp_path: Path) -> None:
    with pytest.raises(IsolationError, match="cannot be started"):
        list(label_isolated([Row(0, 0, "a.png")], work_with(tmp_path / "no model"), timeout=3))
