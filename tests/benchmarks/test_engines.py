"""The arithmetic of the engines' benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.engine_loop import engine
from benchmarks.engines import BARE, Call, Form, _targets, rows_of
from tests.saved_models import SIZE, means, save_signature

OPENVINO, FAST = ("openvino", "float32"), ("tensorflow", "bfloat16")
CALLS = {
    BARE: [Call(2.0, 4.0), Call(4.0, 4.0), Call(3.0, 4.0)],
    OPENVINO: [Call(1.0, 2.0), Call(4.0, 3.2), Call(2.0, 2.0)],
    FAST: [Call(1.0, 1.0), Call(1.0, 1.0), Call(1.0, 1.0)],
}
LOGITS = {
    BARE: np.array([[0.0, 4.0], [1.0, 0.0]]),
    OPENVINO: np.array([[0.0, 4.0], [1.0, 0.0]]),
    FAST: np.array([[0.0, 4.0], [1.0, 2.0]]),
}


def test_a_row_for_each_way() -> None:
    assert rows_of(Form("M", Path("m"), "c"), CALLS, LOGITS) == [
        ["M: bare frozen loop", "10.7", "1", "1", "0e+00", "100%"],
        ["M: `openvino`", "16.0", "**1.50** (1.00 to 2.00)", "**2.00** (1.25 to 2.00)", "0e+00", "100%"],
        ["M: `tensorflow`, bfloat16", "32.0", "**3.00** (2.00 to 4.00)", "**4.00** (4.00 to 4.00)", "5e-01", "50%"],
    ]


def test_an_engine_is_called_with_nothing_running_beside(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "model", lambda input: {"output": means(input)})
    before = psutil.Process().children()
    call = engine(str(path), np.full((2, SIZE, SIZE, 3), 7, np.float32), "openvino", "float32")
    assert call().tolist() == [[7, 7, 7], [7, 7, 7]]
    assert psutil.Process().children() == before


def test_targets() -> None:
    whole = {"tensorflow": [0.9, 1.0, 0.97], "openvino": [1.2]}
    assert _targets(CALLS, whole) == {"convmixer-end-to-end": 0.97, "convmixer-engine": pytest.approx(1.5)}
    assert _targets({BARE: CALLS[BARE]}, {"tensorflow": [1.0]}) == {"convmixer-end-to-end": 1.0}
