"""`--extend`: new images of an input that was planned before, as new shards behind the old ones."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.inputs import Reading, find_inputs
from pipeline.inputs.carried import CarriedTypes
from pipeline.plan import Plan, PlanFile, read_inputs, write_plan
from transforms.plan_files import UriFingerprint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def extend_plan(
    plan: Plan,
    paths: str | Sequence[str],
    root: str | os.PathLike[str],
    *,
    batch_size: int,
    shard_size: int | str = "auto",
    progress: Callable[[int], None] | None = None,
    reading: Reading | None = None,
    skip: str | None = None,
) -> Plan:
    """`plan` and those images of `paths` whose URIs it does not have: new plan files, rows numbered on behind its own.

    The old shards and their parts stay as they are, and so does the plan's fingerprint, which their footers name.
    Memory: 16 bytes for each image planned before.

    Args:
        progress: called with the new images found so far; what it raises ends it, and nothing has changed.
        reading: how tables are read; the columns carried keep the types they have in `plan`.
        skip: a folder of which no image is taken; None for `root`.

    Raises:
        UsageError: an input cannot be read, or values of a column do not have its type.

    Returns:
        The extended plan, or `plan` itself when there is nothing new. It counts once the caller has recorded it.
    """
    import numpy as np

    known = np.concatenate([_digests(batch.column("uri")) for batch in _planned_batches(plan, Path(root))])
    known.sort()
    left_out: Counter[str] = Counter()
    reading = reading or Reading()
    types = CarriedTypes(reading.columns, planned_schema(Path(root) / plan.files[0].name))
    fresh = _unknown(read_inputs(find_inputs(paths), left_out, skip or str(root), reading, types), known)
    first = next(fresh, None)
    if first is None:
        return plan
    added = write_plan(
        _chain(first, fresh),
        Path(root),
        batch_size=batch_size,
        shard_size=None if shard_size == "auto" else int(shard_size),
        left_out=left_out,
        progress=progress,
        first_row=plan.rows,
        first_file=len(plan.files),
        types=types,
    )
    return replace(
        plan,
        rows=plan.rows + added.rows,
        shards=plan.shards + added.shards,
        files=plan.files + tuple(_fingerprinted(file, Path(root)) for file in added.files),
        left_out=added.left_out,
    )


def _planned_batches(plan: Plan, root: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    for file in plan.files:
        with pq.ParquetFile(root / file.name) as parquet:
            yield from parquet.iter_batches(columns=["uri"])


def _fingerprinted(file: PlanFile, root: Path) -> PlanFile:
    """`file` with a fingerprint of its own, since the plan's is not of its rows."""
    import pyarrow.parquet as pq

    found = UriFingerprint()
    with pq.ParquetFile(root / file.name) as parquet:
        for batch in parquet.iter_batches(columns=["uri"]):
            found.add(batch.column("uri"))
    return replace(file, fingerprint=found.hexdigest())


def planned_schema(path: Path) -> pa.Schema:
    """Columns of a plan file."""
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def _unknown(batches: Iterator[pa.RecordBatch], known: np.ndarray) -> Iterator[pa.RecordBatch]:
    import numpy as np
    import pyarrow as pa

    for batch in batches:
        digests = _digests(batch.column("uri"))
        places = np.searchsorted(known, digests)
        found = known[np.minimum(places, len(known) - 1)] == digests
        fresh = batch.filter(pa.array(~found))
        if fresh.num_rows:
            yield fresh


def _digests(uris: pa.Array) -> np.ndarray:
    """16-byte digests of URIs, as one array that sorts and compares."""
    import numpy as np

    joined = b"".join(hashlib.blake2b(uri.encode(), digest_size=16).digest() for uri in uris.to_pylist())
    return np.frombuffer(joined, dtype=[("high", ">u8"), ("low", ">u8")]).astype([("high", "u8"), ("low", "u8")])


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
