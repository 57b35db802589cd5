"""What an output is: logits, probabilities or features, judged by its values on generated pictures and its last op."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.preprocessing import Preprocessing

LOGITS, PROBABILITIES, FEATURES, MAPS, BROKEN = "logits", "probabilities", "features", "feature maps", "not finite"
POOLS = {"Mean", "Max", "Sum", "AvgPool", "MaxPool"}
ACTIVATIONS = {"Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Tanh", "Softplus", "Erf"}
HINTS = {FEATURES: ("feature", "embed", "pool", "hidden", "bottleneck"), LOGITS: ("logit", "predict", "class")}
IMAGENET = {1000: "as many as ImageNet has classes", 1001: "ImageNet's classes and background"}
AMPLIFIED = 10.0  # bounded outputs stay bounded under it, others do not


@dataclass(frozen=True)
class Judgement:
    """What an output is and why, for one output `[B, length]`.

    Attributes:
        kind: `logits`, `probabilities`, `features`, `feature maps` or `not finite`.
        why: for people.
        length: classes or features of an image.
        minimum, maximum: over all pictures.
    """

    kind: str
    why: str
    length: int
    minimum: float
    maximum: float

    @property
    def classifies(self) -> bool:
        return self.kind in (LOGITS, PROBABILITIES)


def pictures(height: int, width: int, dtype: str) -> np.ndarray:
    """Eight pictures, the same every time: flat ones, a gradient, stripes and noise.

    Returns:
        `[8, height, width, 3]`: uint8 0..255; or float32, normalized with ImageNet's mean and standard deviation, four
        of the pictures amplified tenfold.
    """
    rng = np.random.default_rng(0)
    levels = np.zeros((8, height, width, 3))
    levels[1] = 255
    levels[2] = np.linspace(0, 255, width)[None, :, None]
    levels[3] = 255 * (np.arange(height) // 8 % 2)[:, None, None]
    coarse = rng.uniform(0, 255, (4, -(-height // 16), -(-width // 16), 3))
    levels[4:] = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)[:, :height, :width]
    levels[6:] = rng.uniform(0, 255, (2, height, width, 3))
    if dtype == "uint8":
        return levels.astype(np.uint8)
    usual = Preprocessing()
    images = (levels / usual.scale - usual.mean) / usual.std
    images[1::2] *= AMPLIFIED
    return images.astype(np.float32)


def judge(name: str, values: np.ndarray, operation: str | None, spatial: bool = False) -> Judgement:
    """Tell what an output is.

    Args:
        name: the module's name for it.
        values: float32 `[B, n]` for `pictures`.
        operation: the TensorFlow op that makes it, see `graph.last_operation`; None if unknown.
        spatial: whether it has a height and a width.
    """
    kind, why = (MAPS, "it has a height and a width") if spatial else _kind(name, values, operation)
    length = values.shape[1]
    if kind in (LOGITS, PROBABILITIES) and length in IMAGENET:
        why += f"; {length:,} of them, {IMAGENET[length]}"
    return Judgement(kind, why, length, float(values.min()), float(values.max()))


def _kind(name: str, values: np.ndarray, operation: str | None) -> tuple[str, str]:
    if not np.isfinite(values).all():
        return BROKEN, "NaN or infinite for some of the pictures"
    low, high, sums = values.min(), values.max(), values.sum(axis=1)
    by = f" by {operation}" if operation else ""
    if low >= 0 and high <= 1 + 1e-4:
        if values.shape[1] > 1 and np.allclose(sums, 1, atol=1e-3):
            return PROBABILITIES, f"from 0 to 1, and each picture's add up to 1{by}"
        if operation == "Sigmoid" or (operation is None and high > low):
            return PROBABILITIES, f"from 0 to 1 even for amplified pictures{by}, one by one: several classes may hold"
    if high <= 1e-4 and np.allclose(np.exp(values.astype(np.float64)).sum(axis=1), 1, atol=1e-3):
        return LOGITS, f"logarithms of probabilities{by}, whose softmax they are again"
    if values.shape[1] > 1 and np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-3):
        return FEATURES, f"vectors of length 1{by}"
    hints = [kind for kind, words in HINTS.items() if any(word in name.lower() for word in words)]
    if operation in POOLS:
        return FEATURES, f"the output of a pooling{by}"
    if operation in ACTIVATIONS:
        return FEATURES, f"the output of an activation{by}"
    if low >= 0:
        return FEATURES, f"never negative, and up to {high:.3g}{by}"
    signs = f"from {low:.3g} to {high:.3g}, and they do not add up to 1{by}"
    if hints == [FEATURES]:
        return FEATURES, f"so its name says; {signs}"
    if values.shape[1] in IMAGENET or hints == [LOGITS]:
        return LOGITS, signs
    return LOGITS, f"{signs}; features before a classifier could look alike, see the model's page"
