import numpy as np
import pytest

from transforms import classify
from transforms.classify import BrokenModelError, activate, classify_images, fill_rows, top_k
from transforms.errors import ImageError
from transforms.model import ModelCallError, ModelSpec
from transforms.records import Columns, ImageBatch, Row, Shard


class FakeModel:
    """Doubles the first pixel of each image; fails on a batch that holds the value 13, with NaN for 99."""

    def __init__(self, batch_size: int = 4, broken: bool = False, exhausted_above: int | None = None) -> None:
        self.batch_size, self.broken, self.exhausted_above = batch_size, broken, exhausted_above
        self.calls = 0

    def blank(self) -> np.ndarray:
        return np.zeros((self.batch_size, 1, 1, 3), np.float32)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert images.shape == (self.batch_size, 1, 1, 3)
        self.calls += 1
        if self.broken or (images[:, 0, 0, 0] == 13).any():
            raise ModelCallError("unlucky")
        first = images[:, 0, 0, :1] * 2
        first[first == 198] = np.nan
        return {"logits": np.concatenate([first, -first], axis=1)}


def batch_of(*values: float, size: int = 4) -> np.ndarray:
    images = np.zeros((size, 1, 1, 3), np.float32)
    images[: len(values), 0, 0, 0] = values
    return images


def test_top_k_orders_by_score_then_class() -> None:
    scores = np.array([[0.1, 0.4, 0.4, 0.1], [0.25, 0.25, 0.25, 0.25]], np.float32)
    classes, best = top_k(scores, 3)
    assert classes.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert best.tolist() == [pytest.approx([0.4, 0.4, 0.1]), [0.25, 0.25, 0.25]]
    assert top_k(scores, 99)[0].tolist() == [[1, 2, 0, 3], [0, 1, 2, 3]]


def test_top_k_agrees_with_a_full_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 50, (64, 1000)).astype(np.float32)
    classes, best = top_k(scores, 5)
    expected = np.lexsort((np.broadcast_to(np.arange(1000), scores.shape), -scores), axis=1)[:, :5]
    assert (classes == expected).all()
    assert (best == np.take_along_axis(scores, expected, axis=1)).all()


def test_activations() -> None:
    logits = np.array([[1000.0, 999.0], [-1000.0, 0.0]], np.float32)
    assert activate(logits, "softmax")[0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    assert activate(logits, "sigmoid")[1] == pytest.approx([0, 0.5], abs=1e-6)
    assert activate(logits, "none") is logits


def test_a_good_batch_is_one_call() -> None:
    model = FakeModel()
    outputs, errors = classify_images(model, batch_of(1, 2, 3), 3)
    assert outputs["logits"].tolist() == [[2, -2], [4, -4], [6, -6]]
    assert errors == {}
    assert model.calls == 1


@pytest.mark.parametrize("guilty", [{0}, {2}, {3}, {0, 3}, {1, 2}, {0, 1, 2}])
def test_a_failing_batch_is_bisected_to_the_guilty(guilty: set[int]) -> None:
    values = [13.0 if slot in guilty else slot + 1.0 for slot in range(4)]
    outputs, errors = classify_images(FakeModel(), batch_of(*values), 4)
    reasons = {slot: (error.stage, error.type, error.message) for slot, error in errors.items()}
    assert reasons == dict.fromkeys(guilty, ("model", "model_error", "unlucky"))
    for slot in set(range(4)) - guilty:
        assert outputs["logits"][slot].tolist() == [2 * (slot + 1), -2 * (slot + 1)]


def test_one_bad_image_alone_is_the_images_fault() -> None:
    outputs, errors = classify_images(FakeModel(), batch_of(13), 1)
    assert list(errors) == [0]
    assert outputs == {}


def test_a_model_that_fails_on_everything_raises() -> None:
    with pytest.raises(ModelCallError, match="unlucky"):
        classify_images(FakeModel(broken=True), batch_of(1, 2), 2)


def test_a_result_that_is_not_finite_is_a_failed_row() -> None:
    outputs, errors = classify_images(FakeModel(), batch_of(1, 99, 3), 3)
    assert {slot: e.type for slot, e in errors.items()} == {1: "non_finite"}
    rows = [Row(i, i, str(i)) for i in range(3)]
    fill_rows(rows, outputs, errors, "none", Columns(top_k=1, logits=2))
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].classes is None
    assert rows[1].logits is None
    assert rows[2].classes is not None
    assert rows[2].classes.tolist() == [0]
    assert rows[2].scores is not None
    assert rows[2].scores.tolist() == [6]


def test_rows_of_a_failed_batch_carry_the_reason() -> None:
    rows = [Row(0, 0, "a")]
    fill_rows(rows, {}, {0: ImageError("model", "model_error", "x" * 1000)}, "softmax", Columns())
    assert rows[0].error_type == "model_error"
    assert len(rows[0].error_message or "") == 300


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> classify._ClassifyImages:
    """The Beam step with `FakeModel`."""
    monkeypatch.setattr(classify, "load_classifier", lambda spec: FakeModel(spec.batch_size))
    spec = ModelSpec("model", None, None, (("logits", "output"),), (1, 1, 3), "float32", 4)
    step = classify._ClassifyImages(spec, "none", Columns(top_k=1))
    step.setup()
    return step


def label(step: classify._ClassifyImages, *values: float, positions: tuple[int, ...] | None = None) -> list[str | None]:
    """Error types of a batch's rows."""
    rows = [Row(position, position, str(position)) for position in positions or range(len(values))]
    batch = ImageBatch(Shard(0, 0, len(values), positions=positions), batch_of(*values), rows, [])
    (labelled,) = step.process(batch)
    return [row.error_type for row in labelled.rows]


def test_a_model_that_fails_on_a_whole_first_batch_is_broken(step: classify._ClassifyImages) -> None:
    with pytest.raises(BrokenModelError, match="the model fails on every image: unlucky"):
        label(step, 13, 13)


def test_once_an_image_is_labelled_a_batch_of_bad_ones_is_no_surprise(step: classify._ClassifyImages) -> None:
    assert label(step, 13) == ["model_error"]
    assert label(step, 13, 1) == ["model_error", None]
    assert label(step, 13, 99) == ["model_error", "non_finite"]


def test_a_batch_of_rows_that_failed_before_may_fail_again(step: classify._ClassifyImages) -> None:
    assert label(step, 13, 99, positions=(3, 7)) == ["model_error", "non_finite"]
