"""Which part of a picture becomes which part of the model's input: plain arithmetic, no pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from transforms.preprocessing import Preprocessing


@dataclass(frozen=True)
class Plan:
    """What to sample, in pixels.

    Attributes:
        crop: top, left, height, width cut out first; the filter sees nothing outside of it.
        scaled: height and width the crop is resized to.
        window: top, left, height, width of the scaled picture that is wanted.
        place: top and left of the window in the model's input; what it leaves is black.
    """

    crop: tuple[int, int, int, int]
    scaled: tuple[int, int]
    window: tuple[int, int, int, int]
    place: tuple[int, int] = (0, 0)


def plan(height: int, width: int, spec: Preprocessing) -> Plan:
    """Lay out a picture of `height` x `width` pixels for `spec.geometry`; formulas in docs/images.md."""
    return _GEOMETRIES[spec.geometry](height, width, spec)


def _stretch(height: int, width: int, spec: Preprocessing) -> Plan:
    target = (spec.height, spec.width)
    return Plan((0, 0, height, width), target, (0, 0, *target))


def _resize_crop(height: int, width: int, spec: Preprocessing) -> Plan:
    """timm's `transforms_imagenet_eval`: torchvision's Resize and CenterCrop; inputs not square: ResizeKeepRatio."""
    to_height, to_width = math.floor(spec.height / spec.fraction), math.floor(spec.width / spec.fraction)
    if to_height == to_width:
        if width <= height:
            scaled = (int(to_width * height / width), to_width)
        else:
            scaled = (to_height, int(to_height * width / height))
    else:
        ratio = min(height / to_height, width / to_width)
        scaled = (round(height / ratio), round(width / ratio))
    scaled = (max(scaled[0], spec.height), max(scaled[1], spec.width))
    top, left = round((scaled[0] - spec.height) / 2.0), round((scaled[1] - spec.width) / 2.0)
    return Plan((0, 0, height, width), scaled, (top, left, spec.height, spec.width))


def _crop_resize(height: int, width: int, spec: Preprocessing) -> Plan:
    """EfficientNet's padded centre crop; where the input is not square, the crop has the input's proportions."""
    if height * spec.width <= width * spec.height:
        crop_height, crop_width = spec.fraction * height, spec.fraction * height * spec.width / spec.height
    else:
        crop_height, crop_width = spec.fraction * width * spec.height / spec.width, spec.fraction * width
    rows, columns = max(1, int(crop_height)), max(1, int(crop_width))
    top, left = (height - rows + 1) // 2, (width - columns + 1) // 2
    target = (spec.height, spec.width)
    return Plan((top, left, rows, columns), target, (0, 0, *target))


def _pad(height: int, width: int, spec: Preprocessing) -> Plan:
    """`tf.image.resize_with_pad`, in whole numbers: the longer side to size, the other rounded down, centred."""
    if height * spec.width >= width * spec.height:
        scaled = (spec.height, max(1, width * spec.height // height))
        place = (0, (spec.width * height - width * spec.height) // (2 * height))
    else:
        scaled = (max(1, height * spec.width // width), spec.width)
        place = ((spec.height * width - height * spec.width) // (2 * width), 0)
    return Plan((0, 0, height, width), scaled, (0, 0, *scaled), place)


def reduction(height: int, width: int, spec: Preprocessing) -> int:
    """By how much a decoder may shrink the picture first without moving or blurring what the filter makes of it.

    Returns:
        8, 4 or 2 where an antialiasing filter still has to shrink the rest by 2 or more and every number of the plan
        divides evenly; else 1. Within 0.2 to 0.5 levels on average of decoding whole (docs/images.md).
    """
    if not spec.antialias:
        return 1
    whole = plan(height, width, spec)
    shrink = min(whole.crop[2] / whole.scaled[0], whole.crop[3] / whole.scaled[1])
    for factor in (8, 4, 2):
        if shrink < 2 * factor or height % factor or width % factor:
            continue
        reduced = plan(height // factor, width // factor, spec)
        if replace(reduced, crop=whole.crop) == whole and whole.crop == tuple(n * factor for n in reduced.crop):
            return factor
    return 1


_GEOMETRIES = {"stretch": _stretch, "resize_crop": _resize_crop, "crop_resize": _crop_resize, "pad": _pad}
