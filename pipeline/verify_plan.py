"""The plan of a run as `hublabel verify` sees it: whole or not, shard by shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.plan import PlanFile
from pipeline.record import NAME
from pipeline.verify_parts import one_line
from transforms.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class DamagedPlanError(ValueError):
    """A shard of the plan cannot be read, or is not what it was."""


class UriFingerprint:
    """sha256 over URIs, as `Plan.fingerprint` has it."""

    def __init__(self) -> None:
        self._texts, self._lengths = hashlib.sha256(), hashlib.sha256()

    def add(self, uris: list[str]) -> None:
        """Take up the URIs of the next rows."""
        encoded = [uri.encode() for uri in uris]
        self._texts.update(b"".join(encoded))
        self._lengths.update(b"".join(len(uri).to_bytes(4, "little") for uri in encoded))

    def hexdigest(self) -> str:
        return hashlib.sha256(self._texts.digest() + self._lengths.digest()).hexdigest()


class OpenPlan:
    """A plan file, open for reading shard by shard."""

    def __init__(self, storage: Storage, recorded: PlanFile) -> None:
        self.name = recorded.name
        self._storage, self._recorded = storage, recorded
        self._file: pq.ParquetFile | None = None
        self._problem = ""

    def __enter__(self) -> OpenPlan:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(self._storage.open(self.name), page_checksum_verification=True)
        except FileNotFoundError:
            self._problem = "missing"
        except (pa.ArrowException, OSError, ValueError) as error:
            self._problem = f"damaged: {one_line(error)}"
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def problems(self) -> Iterator[str]:
        """What is wrong with the file as a whole."""
        if self._file is None:
            yield self._problem
            return
        found, recorded = self._file.metadata, self._recorded
        if (found.num_row_groups, found.num_rows) != (recorded.shards, recorded.rows):
            yield (
                f"it has {found.num_rows:,} rows in {found.num_row_groups:,} shards, "
                f"and {NAME} says {recorded.rows:,} in {recorded.shards:,}"
            )

    def shard(self, row_group: int, first_row: int) -> pa.Table | None:
        """The rows of one shard, numbered from `first_row` on; None when there is no such file.

        Raises:
            DamagedPlanError: it cannot be read, or its rows are numbered otherwise.
        """
        import pyarrow as pa

        if self._file is None:
            return None
        try:
            table = self._file.read_row_group(row_group, use_threads=False)
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
            raise DamagedPlanError(f"damaged: {one_line(error)}") from None
        if table["row"].to_pylist() != list(range(first_row, first_row + len(table))):
            raise DamagedPlanError(f"its rows are not numbered from {first_row} on")
        return table
