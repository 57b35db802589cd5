"""pyarrow in the launcher, without pandas."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec


def forgo_pandas() -> None:
    """Keep pyarrow from importing pandas.

    It looks for pandas when it makes its first array, to know a Series when it sees one: 0.4 s and 50 MB for what the
    launcher never uses. It looks once, and finds none; `to_pandas` imports it nevertheless.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    with _hidden("pandas"):
        pa.array([])


class _Hiding:
    """Finds one module to be missing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name == self._name:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
        return None


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    finder = _Hiding(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
