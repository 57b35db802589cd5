"""The likely mistakes around a config, each a config that loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.check.settings import GROUPS, Setting, alternatives, changed_keys, configured_setting, name_of
from pipeline.config import load_config
from transforms.preprocessing import Preprocessing

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"


def names(group: str, setting: Setting) -> list[str]:
    return [option.name for option in alternatives(group, setting, setting)]


def test_every_likely_mistake_is_among_them() -> None:
    setting = configured_setting(load_config(QUICKSTART))
    assert {group: names(group, setting) for group in GROUPS} == {
        "label_offset": ["label_offset 1", "truth from 1"],
        "values": [
            "values in [0, 1]", "values in [-1, 1]", "values 0..255", "ImageNet mean and std",
            "ImageNet mean and std, scale 1", "ImageNet mean, 0..255", "configured mean and std, scale 255",
        ],
        "transpose": ["transpose true"],
        "channels": ["channels bgr"],
        "geometry": [
            "stretch", "pad", "resize_crop 0.875", "resize_crop 0.9", "resize_crop 0.95", "resize_crop 0.96",
            "resize_crop 1", "crop_resize 0.9", "crop_resize 1",
        ],
        "filter": ["bilinear, antialias false", "bilinear, antialias true", "bicubic, antialias true"],
    }  # fmt: skip


def test_each_differs_in_its_group_only_and_is_a_config_that_loads() -> None:
    setting = configured_setting(load_config(QUICKSTART))
    for group in GROUPS:
        for option in alternatives(group, setting, setting):
            assert [name for name in GROUPS if option.setting.of_group(name) != setting.of_group(name)] == [group]
            assert name_of(group, option.setting, setting) == option.name
            keys = changed_keys(option.setting, setting)
            if keys.get("model.label_offset") == -1:
                continue  # no config has that: it is the truth's
            loaded = load_config(QUICKSTART, [f"{key}={value}".lower() for key, value in keys.items()])
            assert configured_setting(loaded) == option.setting


def test_bytes_are_not_normalized() -> None:
    setting = Setting(Preprocessing(dtype="uint8"), 0)
    assert names("values", setting) == []


def test_transposed_pictures_have_height_and_width_swapped() -> None:
    """The model's shape stays what it is."""
    setting = Setting(Preprocessing(height=100, width=200), 0)
    [option] = alternatives("transpose", setting, setting)
    assert option.setting.image.model_shape == setting.image.model_shape
    assert changed_keys(option.setting, setting) == {"image.size": [200, 100], "image.transpose": True}


def test_the_configured_values_are_tried_again_after_a_change() -> None:
    configured = Setting(Preprocessing(geometry="resize_crop", fraction=0.8, scale=128.0, mean=(1.0, 1.0, 1.0)), 3)
    changed = configured.with_values({"geometry": "stretch", "fraction": 1.0, "scale": 1.0, "label_offset": 4})
    for group in ("geometry", "values", "label_offset"):
        found = [option.setting for option in alternatives(group, changed, configured)]
        assert changed.with_values(configured.of_group(group)) in found
        assert changed not in found


@pytest.mark.parametrize("fraction", [0.8, 0.875])
def test_an_unusual_fraction_is_tried_with_both_crops(fraction: float) -> None:
    setting = Setting(Preprocessing(geometry="resize_crop", fraction=fraction), 0)
    assert ("crop_resize 0.8" in names("geometry", setting)) == (fraction == 0.8)
    assert "crop_resize 0.875" in names("geometry", setting)
