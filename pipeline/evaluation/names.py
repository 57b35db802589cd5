"""What classes are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class ClassNames:
    """Names by index: from the labels of the model, where there are any; else from the rows that have come by.

    Args:
        labels: names of the classes, in order; None without.
    """

    def __init__(self, labels: Sequence[str] | None) -> None:
        self.labels = labels
        self._found: dict[int, str] = {}

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up the names in `label` and `top_k` of rows."""
        for row in rows:
            for named in (row, *(row.get("top_k") or ())):
                if named.get("label") is not None:
                    self._found[named["label_index"]] = named["label"]

    def short(self, index: int) -> str:
        """The first of the names that a label gives between commas."""
        return self[index].partition(",")[0]

    def __getitem__(self, index: int) -> str:
        if self.labels is not None and 0 <= index < len(self.labels):
            return self.labels[index]
        return self._found.get(index, "background" if index < 0 else str(index))
