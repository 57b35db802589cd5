"""Importing large libraries without what they would import beside, and labelling never uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec


def import_tensorflow() -> None:
    """Import TensorFlow, and leave Keras until somebody asks for `tf.keras`.

    TensorFlow imports Keras at its end, for optimizers that register themselves; SavedModels load without them. It
    takes a fifth of the time, or a third where scikit-learn is installed, which Keras imports in turn.
    """
    with without("keras.src", "tf_keras.src"):
        import tensorflow  # noqa: F401


class _Hiding:
    """Finds some modules to be missing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
        return None


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Modules of these names are not to be found; those imported before are there."""
    finder = _Hiding(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
