"""Which shards of a plan are covered by parts: what resume, progress and the report rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.plan import Plan
from transforms.parts import DamagedPartError, PartFooter, newest_parts, part_footer
from transforms.records import Shard
from transforms.storage import Storage


@dataclass
class Coverage:
    """What the committed parts of a run add up to; `refresh` takes up those that are new.

    Attributes:
        rows, failed: rows in parts, and those of them that failed.
        shards: parts.
        seconds: thread-seconds by stage.
    """

    storage: Storage
    plan: Plan
    rows: int = 0
    failed: int = 0
    shards: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)
    _seen: list[dict[int, PartFooter]] = field(default_factory=list)

    def refresh(self) -> None:
        """List the folders of plan files that are not covered yet and read the footers that are new.

        Damaged or foreign parts are not counted; `damaged` has their names and what is wrong with them.
        """
        self._seen = self._seen or [{} for _ in self.plan.files]
        for number, plan_file in enumerate(self.plan.files):
            seen = self._seen[number]
            if len(seen) == plan_file.shards:
                continue
            for row_group, (_, name) in newest_parts(self.storage, number).items():
                if row_group not in seen and row_group < plan_file.shards and name not in self.damaged:
                    self._take(seen, row_group, name)

    def _take(self, seen: dict[int, PartFooter], row_group: int, name: str) -> None:
        try:
            footer = part_footer(self.storage, name)
        except FileNotFoundError:  # superseded between the listing and now
            return
        except DamagedPartError as error:
            self.damaged[name] = str(error)
            return
        if footer.plan != self.plan.fingerprint or footer.rows != self.plan.files[footer.file].shard_rows(row_group):
            self.damaged[name] = "it belongs to another plan"
            return
        seen[row_group] = footer
        self.shards += 1
        self.rows += footer.rows
        self.failed += footer.failed
        self.seconds.update(footer.seconds)

    @property
    def complete(self) -> bool:
        """Whether every shard of the plan has its part."""
        return self.shards == self.plan.shards

    def pending(self) -> Iterator[Shard]:
        """The shards without a part, in the plan's order."""
        for number, plan_file in enumerate(self.plan.files):
            for row_group in range(plan_file.shards):
                if row_group not in self._seen[number]:
                    yield Shard(number, row_group, plan_file.shard_rows(row_group))

    def mend(self, say: Callable[[str], None]) -> None:
        """Remove damaged parts, so that their shards are labelled again."""
        for name, reason in self.damaged.items():
            say(f"{name}: {reason}; its images are labelled again")
            self.storage.delete(name)
        self.damaged.clear()
