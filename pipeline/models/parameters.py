"""Hand a checkpoint's parameters to an architecture, each exactly once and in the shape that it must have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.models.torch_checkpoint import CheckpointError

# Counts training steps; inference has no use for it.
IGNORED_SUFFIX = "num_batches_tracked"


class Parameters:
    """Parameters by name; `take` removes them, `finish` complains about what nobody took.

    Args:
        arrays: name to array, as `read_checkpoint` returns them.
        model: what the parameters are meant for; begins every message.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], model: str) -> None:
        self._arrays = {name: value for name, value in arrays.items() if not name.endswith(IGNORED_SUFFIX)}
        self._model = model

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The parameter `name` as float32 of `shape`.

        Raises:
            CheckpointError: it is missing, has another shape, is no floating-point array or is not finite.
        """
        if name not in self._arrays:
            raise CheckpointError(f"{self._model}: the checkpoint lacks the parameter '{name}' of shape {list(shape)}")
        value = self._arrays.pop(name)
        if value.shape != shape:
            raise CheckpointError(
                f"{self._model}: the parameter '{name}' has shape {list(value.shape)}, expected {list(shape)}"
            )
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise CheckpointError(f"{self._model}: the parameter '{name}' ({value.dtype}) is not finite floating point")
        return value.astype(np.float32)

    def finish(self) -> None:
        """Raises CheckpointError naming the parameters that no layer took."""
        if self._arrays:
            shown = ", ".join(f"'{name}'" for name in list(self._arrays)[:3])
            more = f" and {len(self._arrays) - 3} more" if len(self._arrays) > 3 else ""
            raise CheckpointError(f"{self._model}: the checkpoint has unexpected parameters: {shown}{more}")

    def take_batch_norm(self, name: str, channels: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
        """Batch normalization as it acts in inference: `x * scale + shift`, two float64 `[channels]`.

        scale = weight / sqrt(running_var + epsilon), shift = bias - running_mean * scale (Ioffe, Szegedy 2015).
        """
        weight, bias, mean, variance = (
            self.take(f"{name}.{part}", channels).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise CheckpointError(f"{self._model}: the parameter '{name}.running_var' has negative variances")
        scale = weight / np.sqrt(variance + epsilon)
        return scale, bias - mean * scale
