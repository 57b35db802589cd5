"""A config for a model, as far as the model itself can tell."""

from __future__ import annotations

import yaml

from pipeline.inspection.interface import Interface
from pipeline.inspection.judgement import FEATURES, LOGITS, PROBABILITIES, Judgement

LABELS = "labels/ilsvrc2012_wordnet_lemmas.txt"
USUAL_SIZE = 224


def image_size(interface: Interface) -> tuple[int, int]:
    """Height and width to use: the input's own, or 224 where it takes any."""
    shape = interface.image_input.shape if interface.image_input else None
    _, height, width, _ = shape or (None, None, None, None)
    return height or USUAL_SIZE, width or USUAL_SIZE


def outputs_to_use(judged: dict[str, Judgement]) -> dict[str, str]:
    """`model.outputs`: one that classifies (probabilities before logits) and one with features, where there are."""
    chosen: dict[str, str] = {}
    for kind, key in ((PROBABILITIES, "probabilities"), (LOGITS, "logits"), (FEATURES, "embedding")):
        names = [name for name, judgement in judged.items() if judgement.kind == kind]
        if names and not (key == "logits" and chosen):
            chosen[key] = names[0]
    return chosen


def snippet(handle: str, sha256: str | None, interface: Interface, judged: dict[str, Judgement]) -> str | None:
    """A complete config in YAML, with a comment wherever the model cannot tell; None if no output can be used.

    Args:
        sha256: digest of the archive behind the handle, which the config then pins.
    """
    outputs = outputs_to_use(judged)
    if interface.image_input is None or not outputs:
        return None
    lines = ["input:", "  path: photos/", "", "model:", f"  handle: {_plain(_escaped(handle))}"]
    if sha256:
        lines.append(f'  sha256: "{sha256}"   # of the archive: another one is refused')
    lines += _call_lines(interface)
    lines.append(f"  outputs: {{{', '.join(f'{key}: {_plain(name)}' for key, name in outputs.items())}}}")
    lines += _class_lines(judged, outputs)
    lines += ["", "image:", *_image_lines(interface)]
    shape = interface.image_input.shape or ()
    if shape and shape[0]:
        lines += ["", "batch:", f"  size: {shape[0]}   # the model takes batches of this size only"]
    lines += ["", "output:", "  path: out/photos"]
    if "embedding" in outputs:
        lines.append("  embedding: true")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """`text` as a YAML scalar on one line."""
    return yaml.safe_dump(text, width=float("inf"), allow_unicode=True).splitlines()[0]


def _escaped(handle: str) -> str:
    """`$` and a leading `~` have a meaning in paths of a config."""
    return ("./" if handle.startswith("~") else "") + handle.replace("$", "$$")


def _call_lines(interface: Interface) -> list[str]:
    if interface.signature is None:
        return ["  signature: null   # the object itself is called"]
    return [] if interface.signature == "serving_default" else [f"  signature: {_plain(interface.signature)}"]


def _class_lines(judged: dict[str, Judgement], outputs: dict[str, str]) -> list[str]:
    name = outputs.get("probabilities") or outputs.get("logits")
    if name is None:
        return []
    lines = []
    if "logits" in outputs:
        lines.append("  activation: softmax   # sigmoid, if several classes may hold at once")
    classes = judged[name].length
    if classes in (1000, 1001):
        lines.append(f"  labels: {LABELS}   # if the classes are ImageNet's; relative to this file")
    else:
        lines.append(f"  labels: null   # a text file with {classes:,} lines, one a class in the model's order")
    if classes == 1001:
        lines.append("  label_offset: 1   # class 0 is background")
    return lines


def _image_lines(interface: Interface) -> list[str]:
    tensor = interface.image_input
    assert tensor is not None
    height, width = image_size(interface)
    fixed = tensor.shape is not None and tensor.shape[1] and tensor.shape[2]
    lines = [f"  size: [{height}, {width}]" + ("" if fixed else "   # the model takes any; see its page")]
    lines += [
        "  # The rest is how the model was trained, which only its page tells; wrong values cost accuracy in silence.",
        "  geometry: stretch       # or resize_crop, crop_resize with a fraction, pad",
        "  resample: bilinear      # or bicubic",
    ]
    if tensor.dtype == "uint8":
        return [*lines, "  dtype: uint8"]
    return [
        *lines,
        "  scale: 255.0            # (pixel / scale - mean) / std: here [0, 1], TensorFlow Hub's convention",
        "  mean: [0.0, 0.0, 0.0]",
        "  std: [1.0, 1.0, 1.0]",
    ]
