"""Input -> plan: which images, in which shards. Streams; memory does not grow with the number of images."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import HublabelError, UsageError
from pipeline.inputs import TAKES, Input, Reading, find_inputs, read_input
from pipeline.inputs.carried import CarriedTypes
from pipeline.spool import Spool
from transforms.plan_files import SHARDS_PER_FILE, auto_shard_size, ceil_div, numbered_shards, write_plan_files
from transforms.storage import explain

if TYPE_CHECKING:
    import pyarrow as pa

PLAN_FOLDER = "plan"
LEFT_OUT_WORDS = {
    "blank_line": "blank lines",
    "folder": "folders",
    "folder_seen_before": "folders linked twice",
    "hidden": "hidden",
    "not_a_file": "not files",
    "unknown_suffix": "of other suffixes",
}
NOTHING = {"folder": "holds no image", "text": "holds no line"}


@dataclass(frozen=True)
class PlanFile:
    """One Parquet file of a plan; row group i is its shard i.

    Attributes:
        name: relative to the run's root, such as `plan/plan-00000.parquet`.
        shards: row groups, 1 .. 1,000.
        rows: images.
        shard_size: rows of every shard but the last, which may be shorter.
        bytes: size of the file.
        fingerprint: of its URIs, see `UriFingerprint`, where workers have planned it or it was added by `--extend`;
            else empty, and the plan's own is of its URIs as well.
    """

    name: str
    shards: int
    rows: int
    shard_size: int
    bytes: int
    fingerprint: str = ""

    def shard_rows(self, row_group: int) -> int:
        """Images in one of its shards."""
        if not 0 <= row_group < self.shards:
            raise IndexError(f"{self.name} has shards 0 to {self.shards - 1}, not {row_group}")
        return min(self.shard_size, self.rows - row_group * self.shard_size)


@dataclass(frozen=True)
class Plan:
    """What a run will label.

    Attributes:
        rows: images, at least 1.
        shards: all files' row groups.
        shard_size: rows of every shard but the last.
        files: in order; their rows are numbered on.
        fingerprint: sha256 (hex) over the rows' URIs in order, see `UriFingerprint`; the same images in other shards
            have the same. Where workers have planned, `joint_fingerprint` of the files. `--extend` leaves it
            as it is.
        left_out: what was met and is no row, counted by reason, such as `hidden` or `blank_line`.
    """

    rows: int
    shards: int
    shard_size: int
    files: tuple[PlanFile, ...]
    fingerprint: str
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML; `from_dict` reads them."""
        return asdict(self) | {"files": [asdict(file) for file in self.files]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        return cls(**{**values, "files": tuple(PlanFile(**file) for file in values["files"])})


def joint_fingerprint(files: Sequence[PlanFile]) -> str:
    """sha256 (hex) over the fingerprints of those files that have one, in order."""
    return hashlib.sha256("".join(file.fingerprint for file in files).encode()).hexdigest()


def make_plan(
    paths: str | Sequence[str],
    root: str | os.PathLike[str],
    *,
    batch_size: int,
    limit: int | None = None,
    shard_size: int | str = "auto",
    progress: Callable[[int], None] | None = None,
    reading: Reading | None = None,
    skip: str | None = None,
) -> Plan:
    """Finds the images and writes them to `<root>/plan/`, as shards.

    The plan counts once the caller has recorded it; an earlier, unrecorded one is removed first.

    Args:
        paths: `input.path`: one path or several, whose order is kept.
        root: the run's output, a local folder; made if it is not there.
        batch_size: images a model call, >= 1.
        limit: only the first so many, >= 1.
        shard_size: images a shard, or `auto` (see `auto_shard_size`).
        progress: called with the images found so far, now and then; what it raises ends the planning, leaving nothing.
        reading: how tables are read, and which of their columns are carried.
        skip: a folder of which no image is taken; None for `root`.

    Raises:
        UsageError: an input does not exist, is of a kind not supported, matches nothing, lacks a column, or has a bad
            line.
        HublabelError: the plan cannot be written.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"input.limit: {limit} is not allowed; it is null or at least 1")
    if shard_size != "auto" and (not isinstance(shard_size, int) or shard_size < 1):
        raise UsageError(f"run.shard_size: {shard_size!r} is not allowed; it is auto or at least 1")
    inputs = find_inputs(paths)
    left_out: Counter[str] = Counter()
    reading = reading or Reading()
    types = CarriedTypes(reading.columns)
    return write_plan(
        _limited(read_inputs(inputs, left_out, skip or str(root), reading, types), limit),
        Path(root),
        batch_size=batch_size,
        shard_size=None if shard_size == "auto" else int(shard_size),
        left_out=left_out,
        progress=progress,
        types=types,
    )


def write_plan(
    batches: Iterator[pa.RecordBatch],
    root: Path,
    *,
    batch_size: int,
    shard_size: int | None,
    left_out: Counter[str],
    progress: Callable[[int], None] | None = None,
    first_row: int = 0,
    first_file: int = 0,
    types: CarriedTypes | None = None,
) -> Plan:
    """Writes record batches (`uri: string`, then columns to carry) as the files of a plan.

    Plan files numbered `first_file` and on that are there already were never recorded: they are removed. The new ones
    are complete and on disk (fsync) before the first gets its name.

    Args:
        shard_size: images a shard; None for `auto_shard_size`, known only when all rows have been counted.
        first_row, first_file: where the numbering goes on, when rows are added to a plan.
        types: has seen all batches by the time they end, and tells the columns' types; None when these have one schema.

    Raises:
        UsageError: values of a column do not have its type.
        HublabelError: the plan cannot be written.
    """
    folder = root / PLAN_FOLDER
    scratch = root / f"{PLAN_FOLDER}.partial"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        _remove_unrecorded(folder, first_file)
        spool = Spool(scratch, types)
        spool.fill(batches, progress)
        size = shard_size or auto_shard_size(spool.rows, batch_size)
        shards = numbered_shards(spool.batches(), size, first_row)
        names = write_plan_files(shards, os.fspath(scratch), size, first_file)
        folder.mkdir(exist_ok=True)
        files = tuple(_publish(scratch / name, folder, spool.rows, index, size) for index, name in enumerate(names))
        _fsync(folder)
        _fsync(root)
    except OSError as error:
        raise HublabelError(f"output.path: the plan cannot be written to {str(folder)!r}: {explain(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    total = sum(file.shards for file in files)
    return Plan(spool.rows, total, size, files, spool.fingerprint, dict(sorted(left_out.items())))


def read_inputs(
    inputs: Sequence[Input], left_out: Counter[str], skip: str, reading: Reading, types: CarriedTypes
) -> Iterator[pa.RecordBatch]:
    """The rows of all inputs, one after the other; `types` and `left_out` hear of them.

    Raises:
        UsageError: an input matches nothing or cannot be read, or a column to carry is in none of them.
    """
    where = inputs[0].name if len(inputs) == 1 else f"any of the {len(inputs)} inputs"
    for source in inputs:
        rows = 0
        here: Counter[str] = Counter()
        for batch in read_input(source, here, skip, reading):
            rows += batch.num_rows
            left_out.update(here)
            here.clear()
            types.see(batch, source.name)
            if len(inputs) == 1 and source.has_header:
                types.check_all_found(where)  # now, rather than after ten million rows
            yield batch
        left_out.update(here)
        if not rows:
            raise UsageError(nothing_matched(source, left_out))
    types.check_all_found(where)


def nothing_matched(source: Input, left_out: Mapping[str, int]) -> str:
    """What is said of an input without a row."""
    what = NOTHING.get(source.kind, "holds no row")
    if source.is_glob:
        what = "matches no file" if source.kind == "image" else "matches no file that holds a row"
    counts = ", ".join(f"{count} {LEFT_OUT_WORDS[reason]}" for reason, count in sorted(left_out.items()))
    what += f" (left out: {counts})" if counts else ""
    return f"{source.key}: {source.path!r} {what}; {source.key} takes {TAKES}"


def _limited(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    if limit is None:
        yield from batches
        return
    for batch in batches:
        yield batch.slice(0, limit)
        limit -= min(limit, batch.num_rows)
        if not limit:
            return


def _publish(path: Path, folder: Path, rows: int, index: int, size: int) -> PlanFile:
    """Gives one complete file its name."""
    full = SHARDS_PER_FILE * size
    rows_here = min(full, rows - index * full)
    _fsync(path)
    target = folder / path.name
    os.replace(path, target)
    name = f"{PLAN_FOLDER}/{path.name}"
    return PlanFile(name, ceil_div(rows_here, size), rows_here, size, target.stat().st_size)


def _remove_unrecorded(folder: Path, first_file: int) -> None:
    for path in folder.glob("plan-*.parquet"):
        number = path.stem.removeprefix("plan-")
        if number.isdigit() and int(number) >= first_file:
            path.unlink()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
