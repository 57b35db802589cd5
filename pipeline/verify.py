"""`hublabel verify OUT`: is every image of the plan there once, whole, and nothing else?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.arrow import forgo_pandas
from pipeline.config import config_from_resolved
from pipeline.console import plain_console
from pipeline.errors import HublabelError, UsageError
from pipeline.plan import joint_fingerprint
from pipeline.reading import reader
from pipeline.record import NAME, RunRecord, load_record
from pipeline.verify_images import Sample
from pipeline.verify_parts import Counts, Expected, part_problems, read_part
from pipeline.verify_plan import DamagedPlanError, OpenPlan, UriFingerprint
from transforms.masking import mask_credentials
from transforms.parts import FOLDER, DamagedPartError, parse_part_name
from transforms.storage import TEMPORARY, TOP, Storage, open_storage

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 10  # problems of one kind that are named; all are counted
LEFT_OVER = "left over from an attempt that was killed (or a run is at work); delete it"
ATTEMPTS = "attempts"
PLAN = "plan"
REPORT = "report.json"
SUCCESS = "_SUCCESS"


@dataclass
class Check:
    """One line of what was checked.

    Attributes:
        what: such as `parts`.
        looked_at: how much of it there was.
        problems: the first `SHOWN` problems, in words.
        count: all of them.
    """

    what: str
    looked_at: str = ""
    problems: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(mask_credentials(problem))


def verify_command(output: str, images: int, seed: int) -> int:
    """Print what was checked of the output and every problem; returns 0 only when all is there.

    Args:
        images: so many labelled images are read again, and their bytes compared.
        seed: which ones.

    Raises:
        HublabelError: there is no run in `output`, or it cannot be read.
    """
    from rich.progress import Progress
    from rich.table import Table

    forgo_pandas()
    try:
        storage = open_storage(output)
        record = load_record(storage, storage.root)
    except (UsageError, ValueError, OSError) as error:
        raise HublabelError(str(error)) from None
    if record is None:
        raise HublabelError(f"{output}: no run here (no {NAME})")
    with Progress(console=plain_console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("verifying", total=record.plan.rows)
        checks = verify(storage, record, images, seed, advance=lambda rows: progress.advance(task, rows))
    console, table = plain_console(), Table(box=None, pad_edge=False)
    for heading in ("checked", "", "result"):
        table.add_column(heading)
    for check in checks:
        table.add_row(check.what, check.looked_at, number_of(check.count, "problem") if check.count else "ok")
    console.print(table)
    for check in checks:
        for problem in check.problems:
            console.print(f"{check.what}: {problem}")
        if check.count > len(check.problems):
            console.print(f"{check.what}: and {check.count - len(check.problems):,} more")
    whole = not any(check.count for check in checks)
    console.print("all is there" if whole else f"{output}: not all is there, or not as it should be")
    return 0 if whole else 1


def verify(
    storage: Storage,
    record: RunRecord,
    images: int = 0,
    seed: int = 0,
    read: Callable[[str, int], bytes] | None = None,
    advance: Callable[[int], None] = lambda rows: None,  # noqa: ARG005
) -> list[Check]:
    """Everything checked, in the order of the data's way. Memory: a part and its shard at a time.

    Args:
        images: so many labelled images are read again by `read` and compared with `sha256` and `bytes`.
        seed: which ones.
        read: bytes of a URI of at most so many bytes, raising ImageError; None reads as the run does.
        advance: called with rows done.

    Raises:
        OSError: the storage cannot be read at all.
    """
    sample = Sample(images, seed)
    walk = _Walk(storage, record, sample, advance)
    for number in range(len(record.plan.files)):
        walk.plan_file(number)
    walk.strangers()
    walk.finish()
    checks = [walk.plan, walk.parts, walk.rows, walk.others, walk.finished]
    if images:
        compared = Check("images", f"{len(sample.chosen()):,} read again (seed {seed})")
        config = config_from_resolved(record.config, f"{storage.root}/{NAME}")
        for problem in sample.problems(read or reader(config), config.image.max_bytes):
            compared.add(problem)
        checks.append(compared)
    return checks


class _Walk:
    """One pass over plan and parts."""

    def __init__(self, storage: Storage, record: RunRecord, sample: Sample, advance: Callable[[int], None]) -> None:
        self.storage, self.record, self.sample, self.advance = storage, record, sample, advance
        self.plan = Check("plan", f"{number_of(record.plan.rows, 'image')} in {number_of(record.plan.shards, 'shard')}")
        self.parts, self.rows = Check("parts"), Check("rows")
        self.others = Check("other files", "left over, foreign or superseded")
        self.finished = Check(f"{REPORT}, {SUCCESS}")
        self.counts = Counts()
        self.missing: list[str] = []
        self.missing_shards = self.missing_rows = self.found = self.sound = 0
        self._first_row = 0
        self._fingerprint = UriFingerprint()
        self._fingerprint_found = False
        output = record.config["output"]
        outputs = record.config["model"]["outputs"]
        self._expected = Expected(
            record.plan.fingerprint,
            record.fingerprint,
            classifies="logits" in outputs or "probabilities" in outputs,
            strips_uris=output.get("uri") == "stripped",
        )
        self._columns: tuple[str, Any] | None = None

    # The plan and its parts.

    def plan_file(self, number: int) -> None:
        """One plan file and the parts of its shards."""
        plan_file = self.record.plan.files[number]
        parts = self._listed(number)
        if plan_file.fingerprint:
            self._fingerprint = UriFingerprint()
        with OpenPlan(self.storage, plan_file) as opened:
            for problem in opened.problems():
                self.plan.add(f"{plan_file.name}: {problem}")
            for row_group in range(plan_file.shards):
                rows = plan_file.shard_rows(row_group)
                planned = self._planned(opened, row_group, rows)
                self._shard(number, row_group, rows, planned, parts.pop(row_group, {}))
                self.advance(rows)
        self._compare_fingerprint(number)

    def _listed(self, number: int) -> dict[int, dict[int, str]]:
        """Names of the parts of a plan file's shards, by row group and generation; what is no part is noted."""
        found: dict[int, dict[int, str]] = {}
        for name in sorted(self.storage.list(f"{FOLDER}/{number:05d}")):
            parsed = parse_part_name(name)
            if parsed is None or parsed[1] >= self.record.plan.files[number].shards:
                self._stranger(name)
            else:
                found.setdefault(parsed[1], {})[parsed[2]] = name
        return found

    def _planned(self, opened: OpenPlan, row_group: int, rows: int) -> pa.Table | None:
        """A shard of the plan, if it is whole."""
        first, self._first_row = self._first_row, self._first_row + rows
        try:
            table = opened.shard(row_group, first)
        except DamagedPlanError as error:
            self.plan.add(f"{opened.name}, shard {row_group}: {error}")
            return None
        if table is not None:
            self._fingerprint.add(table["uri"].to_pylist())
        return table

    def _compare_fingerprint(self, number: int) -> None:
        """The plan's is that of the first files: those of later extensions lie behind it."""
        plan, found = self.record.plan, self._fingerprint.hexdigest()
        file = plan.files[number]
        if file.fingerprint and file.fingerprint != found and not self.plan.count:
            self.plan.add(f"{file.name}: its URIs are not those the run was planned with (fingerprint)")
        self._fingerprint_found |= plan.fingerprint in (found, joint_fingerprint(plan.files[: number + 1]))
        if number == len(plan.files) - 1 and not self._fingerprint_found and not self.plan.count:
            self.plan.add(f"{PLAN}/: its URIs are not those the run was planned with (fingerprint)")

    def _shard(self, number: int, row_group: int, rows: int, planned: pa.Table | None, parts: dict[int, str]) -> None:
        if not parts:
            self.missing_shards += 1
            self.missing_rows += rows
            if len(self.missing) < SHOWN:
                self.missing.append(f"{number:05d}/{row_group:05d}")
            return
        self.found += 1
        newest = max(parts)
        for generation in sorted(set(parts) - {newest}):
            self.others.add(f"{parts[generation]}: superseded by generation {newest}; readers see its rows twice")
        name = parts[newest]
        try:
            footer, table = read_part(name, self.storage.read(name))
        except FileNotFoundError:
            self.parts.add(f"{name}: it went away while it was being verified")
            return
        except DamagedPartError as error:
            self.parts.add(f"{name}: {error}")
            return
        if footer.rows != rows:
            self.parts.add(f"{name}: it has {footer.rows:,} rows, and its shard {rows:,}")
        self._compare_columns(name, table)
        if planned is None:
            self.rows.add(f"{name}: cannot be compared, its shard of the plan is damaged")
            return
        problems = part_problems(footer, table, planned, self._expected)
        for problem in problems:
            self.rows.add(f"{name}: {problem}")
        if not problems:
            self.sound += 1
            self.counts.add(table)
            self.sample.offer(table, planned)

    def _compare_columns(self, name: str, table: pa.Table) -> None:
        columns = [(field.name, str(field.type)) for field in table.schema]
        if self._columns is None:
            self._columns = (name, columns)
        elif columns != self._columns[1]:
            self.parts.add(f"{name}: its columns are not those of {self._columns[0]}")

    # What should not be there.

    def _stranger(self, name: str) -> None:
        base = name.rpartition("/")[2]
        if base.startswith((".", "_")) and not base.startswith(TEMPORARY) and not base.endswith(".parquet"):
            return  # such as .DS_Store: readers of Parquet folders skip it
        if base.startswith(TEMPORARY):
            self.others.add(f"{name}: {LEFT_OVER}")
        else:
            self.others.add(f"{name}: no part of this run; readers of the folder would take it for one")

    def strangers(self) -> None:
        """Whatever else lies in the output and could be taken for a part of it."""
        folders = {f"{FOLDER}/{number:05d}" for number in range(len(self.record.plan.files))}
        for name in sorted(set(self.storage.list(FOLDER)) - folders):
            below = list(self.storage.list(name))
            for stranger in below or [name]:
                self._stranger(stranger)
        recorded = {file.name for file in self.record.plan.files}
        for name in sorted(set(self.storage.list(PLAN)) - recorded):
            self.others.add(f"{name}: not of the plan that {NAME} records; delete it")
        for name in sorted(self.storage.list(TOP)):
            if name.startswith(TEMPORARY) or name == f"{PLAN}.partial":
                self.others.add(f"{name}: {LEFT_OVER}")

    # What the run says of itself.

    def finish(self) -> None:
        """Whether all shards have sound parts, and whether report and `_SUCCESS` say the same."""
        shards = self.record.plan.shards
        self.parts.looked_at = f"{self.found:,} of {shards:,}"
        self.rows.looked_at = f"{self.counts.ok + self.counts.failed:,}, {self.counts.failed:,} of them failed"
        self.finished.looked_at = "against the rows"
        if self.missing_shards:
            first = ", ".join(self.missing) + (", ..." if self.missing_shards > len(self.missing) else "")
            images = number_of(self.missing_rows, "image")
            self.parts.add(
                f"no parts for {number_of(self.missing_shards, 'shard')} ({first}): {images} not labelled yet; "
                "run the same command again to go on"
            )
        success = self._json(SUCCESS)
        if self.missing_shards:
            if success is not None:
                self.finished.add(f"{SUCCESS} is there, and parts are missing; run the same command again")
            return
        if success is None:
            if not self.finished.count:
                self.finished.add(f"no {SUCCESS}: all rows are there, the run was not finished; run it again")
            return
        for number in range(len(self.record.plan.files)):
            for name in self.storage.list(f"{ATTEMPTS}/{number:05d}"):
                self.others.add(f"{name}: mark of an attempt, left over; delete it")
        if self.sound == shards:
            self._compare_counts(success, self._json(REPORT))

    def _compare_counts(self, success: dict[str, Any], report: dict[str, Any] | None) -> None:
        counts = self.counts
        rows = counts.ok + counts.failed
        told: list[tuple[str, str, Any, Any]] = [
            (SUCCESS, "rows", success.get("rows"), rows),
            (SUCCESS, "failed", success.get("failed"), counts.failed),
        ]
        if report is None:
            if not self.finished.count:
                self.finished.add(f"no {REPORT}")
        else:
            told += [
                (REPORT, "images", report.get("images"), rows),
                (REPORT, "status", report.get("status"), {"ok": counts.ok, "failed": counts.failed}),
                (REPORT, "errors", report.get("errors"), dict(counts.errors)),
                (REPORT, "labels", report.get("labels"), dict(counts.labels)),
            ]
        for name, key, says, are in told:
            if says != are:
                self.finished.add(f"{name}: {key} is not what the parts add up to{_both(says, are)}")

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            data = self.storage.read(name)
        except FileNotFoundError:
            return None
        try:
            values = json.loads(data)
            if not isinstance(values, dict):
                raise ValueError("no mapping")
        except ValueError:
            self.finished.add(f"{name} is damaged")
            return None
        return values


def number_of(count: int, what: str) -> str:
    """`1 shard`, `2,000 shards`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _both(says: Any, are: Any) -> str:
    text = f": it says {says}, they {are}"
    return text if len(text) <= 200 else ""
