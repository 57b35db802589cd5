"""What TensorFlow says of some batches, in a process of its own: `python -m transforms.engines.reference`.

So the process that labels with another engine need not hold TensorFlow, whose import beside Beam's could wait for ever.
The process ends when its standard input closes, so it does not outlive who asked.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from transforms.engines.engine import Engine, ModelCallError, ModelError, ModelSpec, Outputs
from transforms.lean import import_lean
from transforms.masked_output import mask_output
from transforms.pools import processors
from transforms.programs import program, same_modules


class Reference:
    """TensorFlow with the model of `spec` as it was published, started at once, asked once."""

    title = ""  # TensorFlow and its version, once it has loaded the model

    def __init__(self, spec: ModelSpec) -> None:
        self._process = subprocess.Popen(
            program("transforms.engines.reference"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # On processors, where float32 is exact, and a GPU's memory is left alone.
            env=same_modules(CUDA_VISIBLE_DEVICES="-1"),
        )
        self._send(replace(spec, engine="tensorflow", precision="float32", rewriting=False))

    def load(self) -> None:
        """Return when TensorFlow has loaded the model. Raises ModelError: it cannot, or its process died."""
        if not self.title:
            self.title = self._answer()

    def outputs(self, batches: Sequence[np.ndarray]) -> list[Outputs | str]:
        """Outputs of each batch, or what TensorFlow fails on it with. The process ends.

        Args:
            batches: all of one shape.

        Raises:
            ModelError: TensorFlow cannot load the model, or its process died.
        """
        self.load()
        self._send(list(batches))
        found = self._answer()
        self._process.wait()
        return found

    def close(self) -> None:
        """End the process, whatever it is asked."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: `_answer` will tell
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            found = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):  # an answer that was cut is the latter
            raise ModelError(f"the process that asks TensorFlow died (exit code {self._process.wait()})") from None
        if isinstance(found, ModelError):
            raise found
        return found


def _ask(engine: Engine, batches: Sequence[np.ndarray]) -> list[Outputs | str]:
    call = engine.compile(len(batches[0]))
    found: list[Outputs | str] = []
    for batch in batches:
        try:
            found.append({kind: output.reshape(len(batch), -1) for kind, output in call(batch).items()})
        except ModelCallError as error:
            found.append(str(error))
    return found


def _serve() -> None:
    """Load the model at once, and answer when the batches come."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get into the answer
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(processors()))  # batches come one by one
    import_lean("tensorflow")
    from transforms.engines.tensorflow import TensorFlowEngine

    with answers, contextlib.suppress(EOFError):  # nobody asks any more
        try:
            engine = TensorFlowEngine(pickle.load(sys.stdin.buffer))
            pickle.dump(engine.title, answers)
            answers.flush()
            pickle.dump(_ask(engine, pickle.load(sys.stdin.buffer)), answers)
        except ModelError as error:
            pickle.dump(error, answers)


if __name__ == "__main__":
    mask_output()
    _serve()
    sys.stderr.flush()
    os._exit(0)
