"""Linear light to the 8 bits that models were trained on."""

from __future__ import annotations

import numpy as np

_ROWS = 256


def srgb(linear: np.ndarray) -> np.ndarray:
    """Clip linear light to [0, 1] and encode it with sRGB's curve (IEC 61966-2-1), as uint8 of the same shape.

    What is brighter than 1 becomes white, what is no number black. No tone mapping: it would be a guess.
    """
    encoded = np.empty(linear.shape, np.uint8)
    for top in range(0, len(linear), _ROWS):
        part = np.clip(np.nan_to_num(linear[top : top + _ROWS].astype(np.float32), nan=0.0), 0, 1)
        curve = np.where(part <= 0.0031308, 12.92 * part, 1.055 * part ** (1 / 2.4) - 0.055)
        encoded[top : top + _ROWS] = np.rint(curve * 255)
    return encoded
