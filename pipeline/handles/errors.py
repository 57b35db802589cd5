"""What people are told when a handle cannot be had."""

from __future__ import annotations

import re

from pipeline.errors import HublabelError

ALLOWED = (
    "it must be a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle (docs/models.md)"
)
LOCAL_COPY = "set model.handle to a local copy: a SavedModel directory or a .tar.gz of one"
_CONVMIXER = re.compile(r"convmixer[-_](1024[-_]20|768[-_]32|1536[-_]20)", re.IGNORECASE)


def not_fetched(handle: str, reason: str) -> HublabelError:
    """The one message about a handle that cannot be fetched: what happened, and what to do."""
    return HublabelError(f"model.handle: {handle} could not be fetched: {reason}; {_advice(handle)}")


def _advice(handle: str) -> str:
    found = _CONVMIXER.search(handle)
    if not found:
        return f"if the link is dead, {LOCAL_COPY}"
    variant = found[1].replace("_", "-")
    return (
        "if the link is dead, make the model from its authors' checkpoint with "
        f"`hublabel export convmixer --variant {variant} --checkpoint FILE --output DIR`, set model.handle to DIR "
        "and image.transpose to false (the module on the Hub sees height and width swapped, the export does not), "
        f"or {LOCAL_COPY}"
    )
