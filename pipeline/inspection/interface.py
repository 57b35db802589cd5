"""The ways a loaded SavedModel can be called: its signatures, and the object itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int | None, ...]
CHANNELS = 3


@dataclass(frozen=True)
class Tensor:
    """Name, dtype and shape of an input or output; a length that is not fixed is None, so is an unknown shape."""

    name: str
    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} [{', '.join(str(-1 if n is None else n) for n in self.shape)}]"

    @property
    def takes_images(self) -> bool:
        """Whether this input takes what hublabel gives: `[B, H, W, 3]`, float32 or uint8."""
        return (
            self.dtype in ("float32", "uint8")
            and self.shape is not None
            and len(self.shape) == 4
            and self.shape[3] in (CHANNELS, None)
        )


@dataclass(frozen=True)
class Interface:
    """One way to call the model.

    Attributes:
        signature: its name; None for the object itself.
        inputs: its tensors; arguments that are none are left out.
        outputs: as far as the SavedModel tells.
    """

    signature: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def title(self) -> str:
        return "the object itself" if self.signature is None else f"signature {self.signature}"

    @property
    def image_input(self) -> Tensor | None:
        """The input for images, if there is exactly one and the others need nothing else."""
        images = [tensor for tensor in self.inputs if tensor.takes_images]
        return images[0] if len(images) == 1 and len(self.inputs) == 1 else None

    @property
    def problem(self) -> str | None:
        """Why hublabel cannot use it; None if it can."""
        if self.image_input is not None:
            return None
        if len(self.inputs) != 1:
            return f"it takes {len(self.inputs)} tensors, and hublabel has one: the images"
        return f"it takes {self.inputs[0]}, and hublabel gives float32 or uint8 [-1, height, width, 3]"


def interfaces(module: Any) -> list[Interface]:
    """Every way to call the object that `hub.load` returned: signatures by name, then the object itself."""
    found = [_of_signature(name, function) for name, function in sorted(getattr(module, "signatures", {}).items())]
    functions = getattr(getattr(module, "__call__", None), "concrete_functions", None) or []  # noqa: B004
    if functions:
        # A trace for each value of `training` and the like: the one for inference has them off.
        found.append(_of_call(min(functions, key=_switched_on)))
    return found


def choose(found: list[Interface]) -> Interface | None:
    """The one to use: `serving_default`, else any signature, else the object; among those that take images."""
    usable = [interface for interface in found if interface.problem is None]
    rank = {"serving_default": 0, None: 2}
    return min(usable, key=lambda interface: rank.get(interface.signature, 1), default=None)


def _of_signature(name: str, function: Any) -> Interface:
    inputs = function.structured_input_signature[1]
    return Interface(name, _tensors(inputs), _tensors(named(function.structured_outputs)))


def _of_call(function: Any) -> Interface:
    positional, keywords = function.structured_input_signature
    inputs: dict[str, Any] = {}
    for i, value in enumerate(positional):
        if _is_tensor(value):
            inputs[getattr(value, "name", None) or f"argument {i + 1}"] = value
    inputs.update({name: value for name, value in keywords.items() if _is_tensor(value)})
    return Interface(None, _tensors(inputs), _tensors(named(function.structured_outputs)))


def _switched_on(function: Any) -> int:
    positional, keywords = function.structured_input_signature
    return sum(1 for value in [*positional, *keywords.values()] if not _is_tensor(value) and value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _tensors(named_values: Mapping[str, Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(str(name), value.dtype.name, None if value.shape.rank is None else tuple(value.shape.as_list()))
        for name, value in sorted(named_values.items())
        if _is_tensor(value)
    )


def named(outputs: Any) -> dict[str, Any]:
    """Outputs by the names that `model.outputs` calls them by."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return {str(i): output for i, output in enumerate(outputs)}
    return {"output": outputs}
