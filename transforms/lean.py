"""Importing large libraries without what they would import beside, and labelling never uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

# What is not to be found while a library is imported.
LEFT_OUT = {
    # TensorFlow imports Keras at its end, for optimizers that register themselves; SavedModels load without them. It
    # takes a fifth of the time, or a third where scikit-learn is installed, which Keras imports in turn.
    "tensorflow": ("keras.src", "tf_keras.src"),  # `tf.keras` imports it when somebody asks
    "apache_beam": ("pandas",),  # for data frames
    # By which they tell their maker of each import and call, unasked, and from a fork of this process.
    "openvino": ("openvino_telemetry",),
    "nncf": ("openvino_telemetry",),
}


# What Beam's file systems import where it is installed, 0.3 s. They are for staging files to a runner elsewhere: images
# and outputs we read and write there ourselves (but for Azure's and HDFS's, see `read_beam`).
STORES = ("google.api_core", "google.cloud", "boto3")


def import_lean(library: str, *others: str) -> Any:
    """Import a library without what it would import beside (`LEFT_OUT`), nor `others`; returns the module.

    Raises:
        ImportError: it is not installed.
    """
    with without(*LEFT_OUT.get(library, ()), *others):
        return import_module(library)


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
