"""A random sample of labelled images, read again and compared with what their rows say of their bytes."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transforms.errors import ImageError
from transforms.masking import mask_credentials
from transforms.plan_reader import SOURCE
from transforms.records import OK

if TYPE_CHECKING:
    import pyarrow as pa

READERS = 4


@dataclass(frozen=True, order=True)
class Labelled:
    """A row that is ok: its place in the plan, what was read for it, and its columns `bytes` and `sha256`."""

    row: int
    uri: str
    bytes: int
    sha256: str


@dataclass
class Sample:
    """`size` rows drawn evenly from all that are offered, the same ones for the same seed and rows.

    Every row draws a random number; those with the smallest are kept (a heap of `size`).
    """

    size: int
    seed: int
    _kept: list[tuple[float, Labelled]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def offer(self, table: pa.Table, planned: pa.Table) -> None:
        """Take up the labelled rows of a part whose rows are those of `planned`, in order."""
        if not self.size:
            return
        columns = [table[name].to_pylist() for name in ("row", "bytes", "sha256", "status")]
        uris = planned["uri"].to_pylist()
        sources = planned[SOURCE].to_pylist() if SOURCE in planned.column_names else uris
        for row, size, sha256, status, source, uri in zip(*columns, sources, uris, strict=True):
            if status != OK:
                continue
            uri = source or uri
            draw = -self._random.random()
            if len(self._kept) < self.size:
                heapq.heappush(self._kept, (draw, Labelled(row, uri, size, sha256)))
            elif draw > self._kept[0][0]:
                heapq.heapreplace(self._kept, (draw, Labelled(row, uri, size, sha256)))

    def chosen(self) -> list[Labelled]:
        """The sample, in the plan's order."""
        return sorted(labelled for _, labelled in self._kept)

    def problems(self, read: Callable[[str, int], bytes], max_bytes: int) -> Iterator[str]:
        """What is not as it was for each row of the sample where that is so.

        Args:
            read: bytes of a URI of at most so many bytes, raising ImageError.
        """

        def problem(labelled: Labelled) -> str | None:
            try:
                data = read(labelled.uri, max_bytes)
            except ImageError as error:
                return f"it cannot be read any more: {error.message}"
            if len(data) != labelled.bytes:
                return f"it has {len(data):,} bytes, and had {labelled.bytes:,} when it was labelled"
            if hashlib.sha256(data).hexdigest() != labelled.sha256:
                return "its bytes are not those that were labelled (sha256)"
            return None

        chosen = self.chosen()
        with ThreadPoolExecutor(READERS) as readers:
            for labelled, found in zip(chosen, readers.map(problem, chosen), strict=True):
                if found:
                    yield f"row {labelled.row}, {mask_credentials(labelled.uri)}: {found}"
