"""Pictures kept and decoded anew, ranks and log-probabilities, pictures the model fails on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.check import measure
from pipeline.check.measure import LEAST, Bench, Picture, _measured, open_pictures
from pipeline.check.settings import Setting
from pipeline.errors import HublabelError
from tests.pictures import picture_bytes
from tests.saved_models import save_fussy
from transforms.decode import decode_image
from transforms.header import read_header
from transforms.model import ModelError, ModelSpec, load_classifier
from transforms.preprocessing import Preprocessing
from transforms.read import ReadBytes
from transforms.records import Row
from transforms.resize import resize

FLOOR = float(np.log(LEAST))


def test_ranks_count_the_classes_before_and_ties_go_to_the_lower_class() -> None:
    scores = np.log(np.array([[0.1, 0.6, 0.3], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]]))
    found = _measured(scores, np.array([2, 0, 2, 2]))
    assert found.ranks.tolist() == [1, 1, 2, 0]
    assert found.right.tolist() == [False, False, False, True]
    assert (found.top1, found.top5) == (1, 4)
    assert found.log_probabilities == pytest.approx(np.log([0.3, 0.25, 0.25, 0.6]))


def test_classes_the_model_does_not_have_and_broken_outputs_are_as_wrong_as_can_be() -> None:
    scores = np.array([[-1.0, -2.0], [-1.0, -2.0], [-np.inf, -np.inf], [0.0, -800.0]])
    found = _measured(scores, np.array([-1, 2, 0, 1]))
    assert found.ranks.tolist() == [2, 2, 2, 1]
    assert found.log_probabilities.tolist() == [FLOOR] * 4


def stripes() -> bytes:
    """A JPEG that an antialiasing filter could decode at an eighth of its size."""
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_pictures_are_decoded_whole_once_for_all_filters(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(stripes())
    spec = Preprocessing(height=16, width=16, antialias=True)
    header = read_header(stripes())
    assert decode_image(stripes(), header, spec).shape == (64, 64, 3)
    [picture] = open_pictures([Row(0, 0, str(tmp_path / "a.jpg"))], spec, ReadBytes())
    assert picture is not None
    assert picture.pixels().shape == (512, 512, 3)
    assert picture.pixels() is picture.pixels()


def test_what_does_not_fit_into_memory_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(stripes())
    rows = [Row(0, 0, str(tmp_path / "a.jpg"))]
    [kept] = open_pictures(rows, Preprocessing(), ReadBytes())
    monkeypatch.setattr(measure, "KEPT_BYTES", 0)
    [other] = open_pictures(rows, Preprocessing(), ReadBytes())
    assert isinstance(kept, Picture)
    assert isinstance(other, Picture)
    assert other.pixels() is not other.pixels()
    assert np.array_equal(kept.pixels(), other.pixels())


def test_failures_are_in_the_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(picture_bytes((1, 2, 3), (100, 100)))
    names = ("empty.jpg", "large.png", "nowhere.png")
    rows = [Row(position, position, str(tmp_path / name)) for position, name in enumerate(names)]
    assert open_pictures(rows, Preprocessing(max_pixels=99), ReadBytes()) == [None, None, None]
    assert [(row.error_stage, row.error_type) for row in rows] == [
        ("decode", "empty"), ("decode", "too_many_pixels"), ("read", "not_found"),
    ]  # fmt: skip


def test_pictures_the_model_fails_on_are_wrong_under_that_setting_only(tmp_path: Path) -> None:
    """The model raises above 200, gives infinity for 100, and else the mean of each channel."""
    for number, level in enumerate((150, 250, 100)):
        (tmp_path / f"{number}.png").write_bytes(picture_bytes((level, level - 60, level - 60)))
    rows = [Row(number, number, str(tmp_path / f"{number}.png")) for number in range(3)]
    plain = Preprocessing(height=4, width=4, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pictures = [picture for picture in open_pictures(rows, plain, ReadBytes()) if picture is not None]
    model = ModelSpec(
        path=str(save_fussy(tmp_path / "fussy")), signature="serving_default", input=None,
        outputs=(("logits", "output"),), image_shape=(4, 4, 3), dtype="float32", batch_size=2,
    )  # fmt: skip
    bench = Bench(pictures, np.array([0, 0, 0]), (0, 1), load_classifier(model), "logits")
    assert bench.measure(Setting(plain, 0)).right.tolist() == [True, False, False]
    halved = Preprocessing(height=4, width=4, scale=2.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert bench.measure(Setting(halved, 0)).right.tolist() == [True, True, True]
    assert bench.is_known(Setting(halved, 1))
    assert bench.measure(Setting(halved, 1)).right.tolist() == [False, False, False]


def test_the_pictures_are_prepared_as_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(stripes())
    spec = Preprocessing(height=64, width=64, antialias=False, resample="bilinear")
    [picture] = open_pictures([Row(0, 0, str(tmp_path / "a.jpg"))], spec, ReadBytes())
    assert picture is not None
    assert np.array_equal(
        resize(picture.pixels(), spec), resize(decode_image(stripes(), read_header(stripes()), spec), spec)
    )


def test_a_model_that_is_not_to_be_trusted_ends_the_check(tmp_path: Path) -> None:
    """As another engine than TensorFlow whose outputs differ from its."""

    class Differs:
        spec = ModelSpec("", None, None, (("logits", "output"),), (4, 4, 3), "float32", 2)

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            raise ModelError("its outputs are not TensorFlow's")

    (tmp_path / "a.png").write_bytes(picture_bytes((1, 2, 3)))
    spec = Preprocessing(height=4, width=4)
    pictures = [
        picture for picture in open_pictures([Row(0, 0, str(tmp_path / "a.png"))], spec, ReadBytes()) if picture
    ]
    bench = Bench(pictures, np.array([0]), (0,), Differs(), "logits")  # type: ignore[arg-type]
    with pytest.raises(HublabelError, match=r"^its outputs are not TensorFlow's$"):
        bench.measure(Setting(spec, 0))
