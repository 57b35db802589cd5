"""The likely mistakes of preprocessing: for each group of config keys, the values that people mix up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pipeline.config import RunConfig
from transforms.preprocessing import Preprocessing

LABEL_OFFSET, VALUES, TRANSPOSE, CHANNELS, GEOMETRY, FILTER = (
    "label_offset", "values", "transpose", "channels", "geometry", "filter",
)  # fmt: skip

# From what destroys most to what costs least: a later group can be told only when the earlier ones are right.
GROUPS: dict[str, tuple[str, ...]] = {
    LABEL_OFFSET: ("label_offset",),
    VALUES: ("scale", "mean", "std"),
    TRANSPOSE: ("transpose", "height", "width"),
    CHANNELS: ("channels",),
    GEOMETRY: ("geometry", "fraction"),
    FILTER: ("resample", "antialias"),
}

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of pixels / 255; torchvision's
# Of published models: timm's crop_pct are 0.875, 0.9, 0.95, 0.96 and 1, EfficientNet's and Inception's crop is 0.875.
RESIZE_CROPS, CROP_RESIZES = (0.875, 0.9, 0.95, 0.96, 1.0), (0.875, 0.9, 1.0)


@dataclass(frozen=True)
class Setting:
    """What is measured: preprocessing, and the classes before the first label (-1: the truth counts from 1)."""

    image: Preprocessing
    label_offset: int

    def value(self, name: str) -> Any:
        """The value of one of the names in `GROUPS`."""
        return self.label_offset if name == "label_offset" else getattr(self.image, name)

    def with_values(self, values: Mapping[str, Any]) -> Setting:
        """With other values of such names."""
        image = {name: value for name, value in values.items() if name != "label_offset"}
        return Setting(replace(self.image, **image), values.get("label_offset", self.label_offset))

    def of_group(self, group: str) -> dict[str, Any]:
        """The values of a group's names."""
        return {name: self.value(name) for name in GROUPS[group]}


@dataclass(frozen=True)
class Alternative:
    """A setting that differs from another in one group.

    Attributes:
        name: of what is different, for people.
    """

    group: str
    name: str
    setting: Setting


def configured_setting(config: RunConfig) -> Setting:
    """What a config says."""
    return Setting(config.preprocessing(), config.model.label_offset)


def alternatives(group: str, current: Setting, configured: Setting) -> list[Alternative]:
    """The settings that differ from `current` in `group` only, the configured values among them."""
    found: dict[Setting, Alternative] = {}
    for name, values in _options(group, current, configured):
        setting = current.with_values(values)
        if setting != current:
            found.setdefault(setting, Alternative(group, name, setting))
    return list(found.values())


def name_of(group: str, setting: Setting, configured: Setting) -> str:
    """What a setting's values in a group are called."""
    values = setting.of_group(group)
    for name, option in _options(group, setting, configured):
        if option == values:
            return name
    return group


def _options(group: str, current: Setting, configured: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    match group:
        case "label_offset":
            for offset in (configured.label_offset, configured.label_offset + 1, configured.label_offset - 1):
                yield f"label_offset {offset}" if offset >= 0 else "truth from 1", {"label_offset": offset}
        case "values":
            if current.image.dtype == "float32":
                yield from _values(configured.image)
        case "transpose":
            image = current.image
            yield f"transpose {_yes(image.transpose)}", current.of_group(TRANSPOSE)
            yield f"transpose {_yes(not image.transpose)}", {
                "transpose": not image.transpose, "height": image.width, "width": image.height,
            }  # fmt: skip
        case "channels":
            for channels in ("rgb", "bgr"):
                yield f"channels {channels}", {"channels": channels}
        case "geometry":
            yield from _geometries(configured.image)
        case "filter":
            for antialias in (False, True):
                for resample in ("bilinear", "bicubic"):
                    name = f"{resample}, antialias {_yes(antialias)}"
                    yield name, {"resample": resample, "antialias": antialias}


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _values(configured: Preprocessing) -> Iterator[tuple[str, dict[str, Any]]]:
    mean, std = configured.mean, configured.std
    named = {
        "values in [0, 1]": (255.0, ZEROS, ONES),
        "values in [-1, 1]": (127.5, ONES, ONES),
        "values 0..255": (1.0, ZEROS, ONES),
        "ImageNet mean and std": (255.0, *IMAGENET),
        "ImageNet mean and std, scale 1": (1.0, *IMAGENET),
        "ImageNet mean, 0..255": (1.0, tuple(255 * value for value in IMAGENET[0]), ONES),
    }
    own = (configured.scale, mean, std)
    if own not in named.values():
        yield "values as configured", _scaled(*own)
    for name, option in named.items():
        yield name, _scaled(*option)
    for scale in (255.0, 1.0):  # the division by 255 forgotten, or done twice
        yield f"configured mean and std, scale {scale:g}", _scaled(scale, mean, std)


def _scaled(scale: float, mean: Any, std: Any) -> dict[str, Any]:
    return {"scale": scale, "mean": tuple(mean), "std": tuple(std)}


def _geometries(configured: Preprocessing) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = [("stretch", 1.0), ("pad", 1.0)]
    fractions = {"resize_crop": RESIZE_CROPS, "crop_resize": CROP_RESIZES}
    cropped = [(geometry, fraction) for geometry, usual in fractions.items() for fraction in usual]
    if configured.fraction not in (1.0, 0.875):
        cropped += [(geometry, configured.fraction) for geometry in fractions]
    for geometry, fraction in dict.fromkeys([(configured.geometry, configured.fraction), *whole, *cropped]):
        name = geometry if (geometry, fraction) in whole else f"{geometry} {fraction:g}"
        yield name, {"geometry": geometry, "fraction": fraction}


def changed_keys(setting: Setting, configured: Setting) -> dict[str, Any]:
    """Config keys, by dotted name, whose values differ, in a form that YAML has."""
    keys: dict[str, Any] = {}
    if setting.label_offset != configured.label_offset:
        keys["model.label_offset"] = setting.label_offset
    before, after = configured.image, setting.image
    if (before.height, before.width) != (after.height, after.width):
        keys["image.size"] = [after.height, after.width]
    for field in fields(Preprocessing):
        value = getattr(after, field.name)
        if field.name not in ("height", "width") and value != getattr(before, field.name):
            keys[f"image.{field.name}"] = list(value) if isinstance(value, tuple) else value
    return keys
