"""Which shards of a plan are covered by parts: what resume, progress and the report rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipeline.plan import Plan
from pipeline.progress import LAST_FAILURES
from transforms.parts import DamagedPartError, PartFooter, newest_parts, part_footers, part_name, read_rows
from transforms.records import FAILED, Shard
from transforms.storage import Storage

FOOTERS_AT_ONCE = 16  # nearly always the first has what is looked for


@dataclass
class Coverage:
    """What the committed parts of a run add up to; `refresh` takes up those that are new.

    Attributes:
        run: `RunRecord.fingerprint`.
        rows, failed: rows in the newest parts, and those of them that failed.
        shards: shards that have a part.
        seconds: thread-seconds by stage.
        damaged: names of parts that cannot count, and what is wrong with them.
        wanted: shards that are to get a part of a later generation.
        only_wanted: whether that is all there is to do, shards without any part being left alone.
    """

    storage: Storage
    plan: Plan
    run: str
    rows: int = 0
    failed: int = 0
    shards: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)
    wanted: dict[tuple[int, int], Shard] = field(default_factory=dict)
    only_wanted: bool = False
    _new_failures: PartFooter | None = None
    _seen: list[dict[int, PartFooter]] = field(default_factory=list)

    def refresh(self) -> None:
        """List the folders of plan files where parts are missing and read the footers that are new.

        Damaged or foreign parts are not counted but noted in `damaged`.
        """
        self._seen = self._seen or [{} for _ in self.plan.files]
        awaited = {file for file, row_group in self.wanted if not self._reached(file, row_group)}
        for number, plan_file in enumerate(self.plan.files):
            if len(self._seen[number]) == plan_file.shards and number not in awaited:
                continue
            new: dict[str, int] = {}
            for row_group, (generation, name) in newest_parts(self.storage, number).items():
                seen = self._seen[number].get(row_group)
                unread = seen is None or seen.generation < generation
                if unread and row_group < plan_file.shards and name not in self.damaged:
                    new[name] = row_group
            for name, footer in part_footers(self.storage, list(new)):
                self._take(number, new[name], name, footer)

    def _take(self, number: int, row_group: int, name: str, footer: PartFooter | DamagedPartError) -> None:
        if isinstance(footer, DamagedPartError):
            self.damaged[name] = str(footer)
            return
        if footer.plan != self.plan.fingerprint or footer.rows != self.plan.files[number].shard_rows(row_group):
            self.damaged[name] = "it belongs to another plan"
            return
        if footer.run != self.run:
            self.damaged[name] = "it was made with other settings"
            return
        before = self._seen[number].get(row_group)
        self._seen[number][row_group] = footer
        self.shards += before is None
        self.rows += footer.rows - (before.rows if before else 0)
        self.failed += footer.failed - (before.failed if before else 0)
        if footer.failed:
            self._new_failures = footer
        self.seconds.update(footer.seconds)
        self.seconds.subtract(before.seconds if before else {})

    @property
    def complete(self) -> bool:
        """Whether nothing is pending."""
        return (self.only_wanted or self.covered) and all(self._reached(*key) for key in self.wanted)

    @property
    def covered(self) -> bool:
        """Whether every shard of the plan has its part."""
        return self.shards == self.plan.shards

    @property
    def progress(self) -> int:
        """A number that grows with every part that counts."""
        return self.shards + sum(self._reached(*key) for key in self.wanted)

    def _reached(self, file: int, row_group: int) -> bool:
        footer = self._seen[file].get(row_group)
        return footer is not None and footer.generation >= self.wanted[file, row_group].generation

    def pending(self) -> Iterator[Shard]:
        """The shards still to be labelled, in the plan's order: those without a part, and those wanted again."""
        if self.only_wanted:
            yield from (shard for key, shard in sorted(self.wanted.items()) if not self._reached(*key))
            return
        for number, plan_file in enumerate(self.plan.files):
            for row_group in range(plan_file.shards):
                if row_group not in self._seen[number]:
                    yield Shard(number, row_group, plan_file.shard_rows(row_group))

    def footers(self) -> Iterator[PartFooter]:
        """Footers of the newest parts, in the plan's order."""
        for seen in self._seen:
            for row_group in sorted(seen):
                yield seen[row_group]

    def take_new_failures(self) -> list[tuple[str, str]]:
        """URI and reason of a few failed rows of the newest part that has any; the same are not told twice."""
        footer, self._new_failures = self._new_failures, None
        if footer is None:
            return []
        import pyarrow.compute as pc

        name = part_name(Shard(footer.file, footer.row_group, footer.rows, footer.generation))
        try:
            table = read_rows(self.storage, name, ["uri", "status", "error_message"])
        except (OSError, DamagedPartError):  # a newer part has taken its place; what is shown is not worth a run
            return []
        failed = table.filter(pc.field("status") == FAILED).slice(0, LAST_FAILURES)
        return list(zip(failed["uri"].to_pylist(), failed["error_message"].to_pylist(), strict=True))

    def mend(self, say: Callable[[str], None]) -> None:
        """Remove damaged parts, so that their shards are labelled again."""
        for name, reason in self.damaged.items():
            say(f"{name}: {reason}; its images are labelled again")
            self.storage.delete(name)
        self.damaged.clear()
        self.refresh()  # an older generation may come to light


def any_labelled(storage: Storage, plan: Plan) -> bool:
    """Whether any part holds a label: then the model works, whatever it makes of the images that are left."""
    for number in range(len(plan.files)):
        names = iter([name for _, name in newest_parts(storage, number).values()])
        while some := list(islice(names, FOOTERS_AT_ONCE)):
            for _, footer in part_footers(storage, some):
                if isinstance(footer, PartFooter) and footer.rows > footer.failed:
                    return True
    return False
