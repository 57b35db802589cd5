"""The shipped ConvMixer configs: handle, preprocessing, labels, and what their headers owe the reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import RunConfig, load_config
from pipeline.errors import UsageError
from pipeline.labels import check_label_count, load_labels
from pipeline.models.convmixer import VARIANTS, trainable_parameters
from transforms.preprocessing import Preprocessing

CONFIGS = Path(__file__).parents[2] / "configs"
TOP_1 = {"1024-20": "76.94", "768-32": "80.16", "1536-20": "81.37"}


def header(path: Path) -> str:
    lines = path.read_text().splitlines()
    text = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.lstrip("# ") for line in text)


def config_of(variant: str) -> tuple[Path, RunConfig]:
    path = CONFIGS / f"convmixer_{variant.replace('-', '_')}.yaml"
    return path, load_config(path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_published_variant(variant: str) -> None:
    path, config = config_of(variant)
    assert config.model.handle == f"https://tfhub.dev/rishit-dagli/convmixer-{variant}/1"
    assert (config.model.outputs, config.model.activation) == ({"logits": "output"}, "softmax")
    assert config.preprocessing() == Preprocessing(
        height=224, width=224, geometry="resize_crop", fraction=0.96, resample="bicubic", antialias=True,
        scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), transpose=True,
    )  # fmt: skip
    said = header(path)
    for part in (
        f"{trainable_parameters(VARIANTS[variant]):,} parameters",
        f"{TOP_1[variant]} % top-1",
        "not measured here",
        f"hublabel export convmixer --variant {variant} ",
        "--set image.transpose=false",
        f"hublabel run configs/{path.name}",
    ):
        assert part in said, part


def test_the_hub_pages_own_preprocessing() -> None:
    path = CONFIGS / "convmixer_hub_page.yaml"
    config = load_config(path)
    assert config.model.handle == "https://tfhub.dev/rishit-dagli/convmixer-1024-20/1"
    assert config.preprocessing() == Preprocessing(
        height=224, width=224, geometry="stretch", resample="bilinear", antialias=False,
        scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), transpose=False, exif=False,
    )  # fmt: skip
    for part in ("not measured here", "turned over its diagonal", "docs/hub_page_example.md"):
        assert part in header(path), part


def test_the_labels_are_the_shipped_ones_and_a_line_too_many_is_refused(tmp_path: Path) -> None:
    labels = {config_of(variant)[1].model.labels for variant in VARIANTS}
    labels.add(load_config(CONFIGS / "convmixer_hub_page.yaml").model.labels)
    (path,) = labels
    assert path == str(CONFIGS / "labels" / "ilsvrc2012_wordnet_lemmas.txt")
    lines = load_labels(path)
    assert (lines[0], lines[71], len(lines)) == ("tench, Tinca_tinca", "scorpion", 1000)
    check_label_count(lines, 1000, 0)
    inserted = tmp_path / "labels.txt"
    inserted.write_text("\n".join([*lines[:500], "one more", *lines[500:]]))
    with pytest.raises(UsageError, match=re.escape("has 1001 labels, and the model has 1000 classes")):
        check_label_count(load_labels(inserted), 1000, 0, inserted)
