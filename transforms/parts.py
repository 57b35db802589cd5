"""Part files: their names, their footers, their commit, and which shards they cover.

A part holds the rows of one shard. It is serialised in memory and committed in one step under a name that says
which shard and generation it is, so a part that exists is whole; its footer says so again for a disk that lied.
"""

from __future__ import annotations

import io
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from transforms.records import Shard
from transforms.storage import TEMPORARY, TOP, Storage, StorageError, is_remote

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "predictions"
REQUESTS = 16  # at a time, when parts or their footers are read from an object store
FOOTER_KEY = b"hublabel"
_NAME = re.compile(r"^predictions/(\d{5,})/part-(\d{5,})(?:-g(\d{3,}))?\.parquet$")


class DamagedPartError(ValueError):
    """A file with a part's name that is not that part."""


@dataclass(frozen=True)
class PartFooter:
    """What a part says of itself, in the Parquet footer's key-value metadata under `hublabel`.

    Attributes:
        plan: fingerprint of the plan the part belongs to.
        file, row_group, generation: the shard, see `records.Shard`.
        rows, failed: rows in the part, and how many of them have status `failed`.
        run: fingerprint of all that decides its labels (model, preprocessing, labels, engine).
        seconds: thread-seconds by stage (`read`, `decode`, `model`, `write`) that went into it.
        finished: Unix time of the commit, in seconds.
    """

    plan: str
    file: int
    row_group: int
    generation: int
    rows: int
    failed: int
    run: str
    seconds: dict[str, float] = field(default_factory=dict)
    finished: float = 0.0


def part_name(shard: Shard) -> str:
    """Name of the part of `shard` in its generation, relative to the output."""
    generation = f"-g{shard.generation:03d}" if shard.generation else ""
    return f"{FOLDER}/{shard.file:05d}/part-{shard.row_group:05d}{generation}.parquet"


def parse_part_name(name: str) -> tuple[int, int, int] | None:
    """(file, row group, generation) of a part's name; None when it is no part's."""
    match = _NAME.match(name)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def encode_part(table: pa.Table, footer: PartFooter) -> bytes:
    """`table` as one Parquet file (zstd) that carries `footer`."""
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({FOOTER_KEY: json.dumps(asdict(footer)).encode()})
    buffer = io.BytesIO()
    # Checksums: zstd alone does not notice every flipped bit.
    options = {"compression": "zstd", "write_page_checksum": True}
    pq.write_table(table, buffer, row_group_size=max(1, len(table)), **options)
    return buffer.getvalue()


def read_footer(data: bytes | BinaryIO) -> PartFooter:
    """The footer of a part, given whole or as a file to seek in.

    Raises:
        DamagedPartError: it is no Parquet file, not one of ours, or its row count belies its footer.
        OSError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pa.BufferReader(data) if isinstance(data, bytes) else data
    try:
        metadata = pq.read_metadata(source)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, StorageError) or getattr(error, "errno", None) is not None:
            raise  # the disk or the object store failed, which says nothing of the part; pyarrow's errors have no errno
        raise DamagedPartError(f"not a readable Parquet file: {error}") from None
    try:
        footer = PartFooter(**json.loads((metadata.metadata or {})[FOOTER_KEY]))
    except (KeyError, TypeError, ValueError):
        raise DamagedPartError("not written by hublabel: its footer lacks our metadata") from None
    if footer.rows != metadata.num_rows:
        raise DamagedPartError(f"{metadata.num_rows} rows where its footer says {footer.rows}")
    return footer


def part_footer(storage: Storage, name: str) -> PartFooter:
    """The footer of the part `name`, checked against the name. Raises as `read_footer`."""
    with storage.open(name) as file:
        footer = read_footer(file)
    if parse_part_name(name) != (footer.file, footer.row_group, footer.generation):
        raise DamagedPartError(f"{name} holds another shard's rows")
    return footer


def part_footers(storage: Storage, names: Sequence[str]) -> Iterator[tuple[str, PartFooter | DamagedPartError]]:
    """The footers of parts in the order of `names`, each checked; parts that are gone by now are left out.

    From an object store, where each takes a request, `REQUESTS` are read at a time.
    """

    def footer(name: str) -> PartFooter | DamagedPartError | None:
        try:
            return part_footer(storage, name)
        except FileNotFoundError:
            return None
        except DamagedPartError as error:
            return error

    if is_remote(storage.root) and len(names) > 1:
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = list(pool.map(footer, names))
    else:
        found = [footer(name) for name in names]
    for name, result in zip(names, found, strict=True):
        if result is not None:
            yield name, result


def read_rows(
    storage: Storage, name: str, columns: Sequence[str] | None = None, encoded: Sequence[str] = ()
) -> pa.Table:
    """The rows of the part `name`, its checksums compared.

    Args:
        columns: those of these that it has; None for all.
        encoded: text columns that it has and that are to come as they are stored, a dictionary and indices: faster.

    Raises:
        DamagedPartError: they cannot be read; the message says what to do.
        FileNotFoundError: there is no such part.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    options = {"page_checksum_verification": True, "read_dictionary": encoded}
    options["pre_buffer"] = is_remote(storage.root)  # fewer requests; a copy for nothing on a disk
    try:
        with storage.open(name) as source, pq.ParquetFile(source, **options) as file:
            found = None if columns is None else [column for column in columns if column in file.schema_arrow.names]
            return file.read(columns=found, use_threads=False)  # a part is too small to be shared out
    except (FileNotFoundError, StorageError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DamagedPartError(
            f"{storage.root}/{name}: its rows cannot be read ({reason}); "
            "delete it, and `hublabel run` labels its images again"
        ) from None


def read_parts(
    storage: Storage, names: Sequence[str], columns: Sequence[str], encoded: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """The rows of each of some parts, in the order of `names`; `columns`, `encoded` and errors as `read_rows`.

    From an object store, where each takes a few requests, `REQUESTS` parts are read ahead.
    """
    if not is_remote(storage.root):
        for name in names:
            yield read_rows(storage, name, columns, encoded)
        return
    pool = ThreadPoolExecutor(REQUESTS)
    try:
        ahead: deque[Future[pa.Table]] = deque()
        for name in names:
            ahead.append(pool.submit(read_rows, storage, name, columns, encoded))
            if len(ahead) == REQUESTS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def list_parts(storage: Storage, file: int) -> Iterator[tuple[int, int, str]]:
    """(row group, generation, name) of every file named as a part of plan file number `file`."""
    for name in storage.list(f"{FOLDER}/{file:05d}"):
        parsed = parse_part_name(name)
        if parsed is not None:
            yield parsed[1], parsed[2], name


def newest_parts(storage: Storage, file: int) -> dict[int, tuple[int, str]]:
    """(generation, name) of the newest part of each row group of plan file number `file`."""
    newest: dict[int, tuple[int, str]] = {}
    for row_group, generation, name in list_parts(storage, file):
        if row_group not in newest or generation > newest[row_group][0]:
            newest[row_group] = (generation, name)
    return newest


@dataclass(frozen=True)
class Part:
    """A part read whole."""

    footer: PartFooter
    table: pa.Table


def previous_part(storage: Storage, shard: Shard) -> Part:
    """The part that `shard`, of a later generation, supersedes: the newest one below it.

    Raises:
        DamagedPartError: there is none that can be read.
    """
    for generation in range(shard.generation - 1, -1, -1):
        name = part_name(replace(shard, generation=generation))
        if storage.exists(name):
            return Part(part_footer(storage, name), read_rows(storage, name))
    raise DamagedPartError(f"{shard} has no part to take its other rows from")


def remove_superseded(storage: Storage, shard: Shard) -> None:
    """Remove the parts of generations below that of `shard`, once its own is there."""
    for generation in range(shard.generation - 1, -1, -1):
        storage.delete(part_name(replace(shard, generation=generation)))


def remove_superseded_parts(storage: Storage, file: int) -> None:
    """Remove parts of plan file number `file` that a killed retry has left beside newer ones."""
    newest = newest_parts(storage, file)
    for row_group, generation, name in list(list_parts(storage, file)):
        if generation < newest[row_group][0]:
            storage.delete(name)


def remove_temporary(storage: Storage, file: int | None = None) -> None:
    """Remove what killed attempts have left; nobody may be writing there.

    Args:
        storage: the output.
        file: number of the plan file in whose folder; None for the top of the output, where records and reports are.
    """
    for name in list(storage.list(TOP if file is None else f"{FOLDER}/{file:05d}")):
        if name.rpartition("/")[2].startswith(TEMPORARY):
            storage.delete(name)


def commit_part(storage: Storage, shard: Shard, table: pa.Table, footer: PartFooter) -> bool:
    """Commit the rows of `shard`; False when another attempt has done so before. First commit wins."""
    return storage.put_if_absent(part_name(shard), encode_part(table, footer))
