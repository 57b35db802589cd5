"""What TensorFlow runs a model on, and in what precision; a processor stands in for the GPU."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.saved_models import save_signature
from tests.transforms.engines.test_openvino import product
from tests.transforms.test_model import SPEC, expected, images_of, logits_only
from transforms import model as model_module
from transforms.engines import tensorflow as tensorflow_engine
from transforms.engines.division import Division
from transforms.engines.engine import ModelError
from transforms.engines.processor import has_bfloat16
from transforms.engines.tensorflow import TensorFlowEngine
from transforms.model import Classifier


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_signature(tmp_path_factory.mktemp("model") / "plain", logits_only)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """A processor in place of the GPU, and TensorFlow's settings as they were afterwards."""
    monkeypatch.setattr(tensorflow_engine, "_gpu", lambda: "/device:CPU:0")
    return "/device:CPU:0"


@pytest.fixture(autouse=True)
def settings() -> Any:
    """TensorFlow's own settings are the process's: left as they were found."""
    yield
    tensorflow_engine._choose_precision("float32", None)
    tf.config.experimental.enable_tensor_float_32_execution(True)


# Precision.


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_is_close_and_float32_exact_again(tmp_path: Path) -> None:
    spec = replace(SPEC, path=str(save_signature(tmp_path / "m", product)))
    images = np.random.default_rng(0).random((4, 4, 4, 3), np.float32)
    right = images.reshape(4, 48).sum(axis=1, dtype=np.float64) * 1.001
    errors = []
    for precision in ("bfloat16", "float32"):
        found = TensorFlowEngine(replace(spec, precision=precision)).compile(4)(images)["logits"]
        assert found.dtype == np.float32
        errors.append(np.abs(found - right[:, None]).max() / right.max())
    assert 1e-5 < errors[0] < 1e-2
    assert errors[1] < 1e-6


@pytest.mark.parametrize(
    ("precision", "device", "said"),
    [
        ("float16", None, "float16 needs a GPU, and TensorFlow sees none; on processors use bfloat16"),
        ("bfloat16", "/device:GPU:0", "bfloat16 is for processors; on a GPU use float16"),
        ("bfloat16", None, "this processor has no instructions for bfloat16; use float32"),
    ],
)
def test_a_precision_that_is_not_there(
    plain: Path, monkeypatch: pytest.MonkeyPatch, precision: str, device: str | None, said: str
) -> None:
    monkeypatch.setattr(tensorflow_engine, "_gpu", lambda: device)
    monkeypatch.setattr(tensorflow_engine, "has_bfloat16", lambda: False)
    with pytest.raises(ModelError) as caught:
        TensorFlowEngine(replace(SPEC, path=str(plain), precision=precision))
    assert str(caught.value) == f"model.precision: {said}"


@pytest.mark.parametrize(("precision", "short"), [("float32", False), ("float16", True)])
def test_a_gpu_is_exact_unless_told_otherwise(plain: Path, gpu: str, precision: str, short: bool) -> None:
    TensorFlowEngine(replace(SPEC, path=str(plain), precision=precision))
    assert tf.config.experimental.tensor_float_32_execution_enabled() is short
    assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision"] is short


# A GPU.


def test_a_gpu_gets_copies_of_whole_batches(plain: Path, gpu: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = Classifier(replace(SPEC, path=str(plain), batch_size=40))
    assert model._limit == 40
    ahead = model._engine.ahead(images_of(*range(40), batch_size=40))
    assert isinstance(ahead, tf.Tensor)
    assert model(images_of(*range(40), batch_size=40))["logits"].tolist() == expected(*range(40), batch_size=40)
    assert caplog.messages[-1] == (
        f"TensorFlow {tf.__version__} on /device:CPU:0: whole batches, the next one copied ahead, float32"
    )


def test_a_copy_on_the_gpu_can_be_halved(plain: Path, gpu: str) -> None:
    model = Classifier(replace(SPEC, path=str(plain), batch_size=5))
    real, calls = model._engine.compile, []

    def compile(batch_size: int) -> Any:
        call = real(batch_size)

        def limited(images: Any) -> Any:
            calls.append(len(images))
            if len(images) > 2:
                raise model_module.ModelCallError("out of memory", exhausted=True)
            return call(images)

        return limited

    model._engine.compile = compile  # type: ignore[method-assign]
    model._calls.clear()
    assert model(images_of(1, 2, 3, 4, 5, batch_size=5))["logits"].tolist() == expected(1, 2, 3, 4, 5, batch_size=5)
    assert list(dict.fromkeys(calls)) == [5, 3, 2]


class Slow:
    """An engine whose calls wait to be let go, and which counts the batches that are copied."""

    title, division, rewritten = "slow", Division(4, 1), False

    def __init__(self) -> None:
        self.copied = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def ahead(self, images: np.ndarray) -> np.ndarray:
        self.copied.release()
        return images.copy()

    def compile(self, batch_size: int) -> Any:
        def call(images: np.ndarray) -> dict[str, np.ndarray]:
            self.begun.release()
            self.go.acquire()
            return {"logits": images.mean(axis=(1, 2))}

        return call


def test_one_batch_is_copied_while_another_is_computed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Slow()
    engine.go.release()  # the call it is tried with
    monkeypatch.setattr(model_module, "_engine", lambda _: engine)
    model = Classifier(SPEC)
    for semaphore in (engine.copied, engine.begun):
        assert semaphore.acquire(timeout=10)
    threads = [threading.Thread(target=model, args=(images_of(1),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert engine.begun.acquire(timeout=10)  # the first is computed,
    assert engine.copied.acquire(timeout=10)
    assert engine.copied.acquire(timeout=10)  # the second copied meanwhile,
    assert not engine.copied.acquire(timeout=0.1)  # the third waits
    assert not engine.begun.acquire(blocking=False)
    for _ in threads:
        engine.go.release()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
