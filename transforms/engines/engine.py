"""What an engine is, what it is told of a model, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from transforms.engines.division import Division
from transforms.model_source import ModelSource

ENGINES = ("tensorflow", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")  # float32 is exact; the others are chosen for speed

NO_BFLOAT16 = "this processor has no instructions for bfloat16; use float32"

Outputs = dict[str, np.ndarray]  # by kind (logits, probabilities, embedding), float32 [B, ...]
Call = Callable[[Any], Outputs]  # of images [B, H, W, 3], or what `Engine.ahead` made of them


class ModelError(ValueError):
    """The model does not fit its description; the message says what it has instead."""


class ModelCallError(RuntimeError):
    """The model raised on a batch.

    Attributes:
        exhausted: memory ran out; a smaller batch may do.
    """

    def __init__(self, message: str, exhausted: bool = False) -> None:
        super().__init__(message)
        self.exhausted = exhausted


@dataclass(frozen=True)
class ModelSpec:
    """How a model is loaded and called.

    Attributes:
        path: directory of the SavedModel.
        signature: name of the signature; None to call the object itself.
        input: name of the input; None when there is only one.
        outputs: pairs (logits | probabilities | embedding, the module's name for it).
        image_shape: (height, width, 3) as the model takes it.
        dtype: `float32` or `uint8`.
        batch_size: images handed over at a time.
        engine: what runs it, one of `ENGINES`.
        precision: what it multiplies in, one of `PRECISIONS`; outputs are float32 in any case.
        fingerprint: digest of the SavedModel's files, under which a comparison is remembered; "" remembers none.
        source: where a worker gets the files from, `path` being the launcher's; None: they are at `path`.
        rewriting: whether TensorFlow may use a rewritten graph; see `rewriting`.
    """

    path: str
    signature: str | None
    input: str | None
    outputs: tuple[tuple[str, str], ...]
    image_shape: tuple[int, int, int]
    dtype: str
    batch_size: int
    engine: str = "tensorflow"
    precision: str = "float32"
    fingerprint: str = ""
    source: ModelSource | None = None
    rewriting: bool = True


class Engine(Protocol):
    """A loaded model.

    Attributes:
        title: the engine and its version, for people.
        division: how a batch is best spread over its calls.
        rewritten: what was compiled is not the model's own graph but one made of it; before that, whether it may be.
            Set to False, the model's own is compiled from then on.
    """

    title: str
    division: Division
    rewritten: bool

    def ahead(self, images: np.ndarray) -> Any:
        """What a call takes in place of `images`: their copy on a GPU, made while an earlier batch is computed there.

        Elsewhere the images themselves.
        """
        ...

    def compile(self, batch_size: int) -> Call:
        """A function of images [batch_size, H, W, 3] to the spec's outputs; it raises ModelCallError.

        As many threads as `division.calls` may call it at a time.

        Raises:
            ModelError: the model does not take so many images, or of that shape.
        """
        ...


def choose_input(names: Sequence[str], spec: ModelSpec) -> str:
    """The input that takes the images.

    Raises:
        ModelError: it has none of that name, or several and none was named.
    """
    if spec.input is not None:
        if spec.input not in names:
            raise ModelError(f"model.input: no input {spec.input!r}; the model has {listed(names)}")
        return spec.input
    if len(names) != 1:
        raise ModelError(f"model.input: the model has several inputs; name one of {listed(names)}")
    return names[0]


def unfit(takes: str, spec: ModelSpec) -> ModelError:
    """The error of a model that `takes` other images, such as `float32 [-1, 224, 224, 3]`."""
    made = f"{spec.dtype} {[spec.batch_size, *spec.image_shape]}"
    return ModelError(f"the model takes {takes}, and image.size, image.dtype and batch.size make {made}")


def missing_output(kind: str, name: str, names: Any) -> ModelError:
    """The error of an output `name` that is not among `names`."""
    return ModelError(f"model.outputs.{kind}: no output {name!r}; the model has {listed(names)}")


def listed(names: Any) -> str:
    """`names` in order, between commas."""
    return ", ".join(sorted(map(str, names)))
