"""Names of a model's classes: a text file with one label a line, in the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UsageError


def load_labels(path: str | Path) -> list[str]:
    """Read the labels of a local UTF-8 file: line n is class n - 1, plus `label_offset`.

    Spaces around a label are dropped. Two classes may have one name (ImageNet has two cranes): the index is the key.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, has no lines, or has an empty one between others.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"model.labels: {path} is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"model.labels: {path} cannot be read: {reason}") from None
    # Only line feeds end a line: str.splitlines would cut a label at U+2028 and count on from there.
    labels = [line.strip() for line in text.rstrip("\r\n").split("\n")]
    if labels == [""]:
        raise UsageError(f"model.labels: {path} is empty; it must have one label a line")
    for number, label in enumerate(labels, start=1):
        if not label:
            raise UsageError(f"model.labels: line {number} of {path} is empty; it must have one label a line")
    return labels


def check_label_count(labels: Sequence[str], classes: int, label_offset: int, path: str | Path = "the file") -> None:
    """Refuse labels that cannot be the model's: each class from `label_offset` on has one, no more and no fewer.

    Args:
        classes: of the model: the length of its logits or probabilities.
        path: the labels file, for the message.

    Raises:
        UsageError: the counts differ.
    """
    wanted = classes - label_offset
    if len(labels) == wanted:
        return
    less = f" less model.label_offset {label_offset}" if label_offset else ""
    hint = ""
    if not label_offset and classes == len(labels) + 1:
        hint = "; if class 0 is background, set model.label_offset: 1"
    raise UsageError(
        f"model.labels: {path} has {len(labels)} labels, and the model has {classes} classes{less}; "
        f"it must have {max(wanted, 0)} lines, one a class in the model's order{hint}"
    )
