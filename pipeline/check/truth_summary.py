"""What `hublabel check --truth` found: which setting is right, as a text with the YAML to change, and for JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.check.measure import Bench, Measured
from pipeline.check.search import Comparison, Found, compare
from pipeline.check.settings import GROUPS, LABEL_OFFSET, TRANSPOSE, VALUES, Setting, changed_keys, name_of
from pipeline.check.summary import STYLES, print_pairs, print_table
from pipeline.intervals import wilson
from pipeline.truth import INDEX, Truth
from transforms.records import FAILED, Row

FEW = 50  # images, of which hardly anything can be shown
EXAMPLES = 3  # failed images that are named
BY_CHANCE = 10  # times 1 / classes: a model that is right no more often knows nothing of these images
METHOD = (
    "Top-1 and top-5 with Wilson's 95% intervals (1927); differences on the same images, with 95% intervals by the "
    "paired bootstrap (Efron and Tibshirani, 1993). Better or worse is what McNemar's exact test of the answers (1947, "
    "p < 0.05) and a sign-flip test of the right class's log-probability (Fisher, 1935; p < 0.05 after Bonferroni over "
    "{} settings) both show, or the answers alone beyond doubt."
)


@dataclass(frozen=True)
class TruthSummary:
    """One check against a truth.

    Attributes:
        path: the config's file, as the user named it.
        truth_path: `--truth`, likewise.
        rows: the images that were tried, failed ones among them.
        bench: has the measurements.
        classes: of the model.
        labels: of the config, None for indices.
        labels_problem: why a run would refuse them; empty if it would not.
    """

    path: str
    truth_path: str
    truth: Truth
    rows: Sequence[Row]
    bench: Bench
    found: Found
    classes: int
    labels: Sequence[str] | None
    labels_problem: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is shown to be better, and the model knows the images at all."""
        return not (self.found.changes or self._is_lost or self.labels_problem)

    @property
    def _is_lost(self) -> bool:
        best = self.bench.measure(self.found.best)
        return wilson(best.top1, len(self.bench))[1] <= min(0.5, BY_CHANCE / self.classes)

    @property
    def changes(self) -> dict[str, Any]:
        """Config keys to change, by dotted name: of each group that is wrong, all that belong together."""
        changed = changed_keys(self.found.best, self.found.configured)
        for group in self.found.changes:
            if group != TRANSPOSE:
                for name, value in self.found.best.of_group(group).items():
                    section = "model" if group == LABEL_OFFSET else "image"
                    changed[f"{section}.{name}"] = list(value) if isinstance(value, tuple) else value
        if not self._is_offset_configs:
            changed.pop("model.label_offset", None)
        return dict(sorted(changed.items(), key=lambda item: _ORDER.index(item[0].partition(".")[2])))

    @property
    def _is_offset_configs(self) -> bool:
        """Whether a wrong label offset is a mistake of the config, and not of the truth or the labels."""
        if self.found.best.label_offset < 0:
            return False
        return self.labels is None or len(self.labels) != self.classes - self.found.configured.label_offset

    def mistakes(self) -> list[tuple[str, str]]:
        """A sentence each, and a remark on it or nothing."""
        found = [(self.labels_problem, "")] if self.labels_problem else []
        for group, loss in self.found.changes.items():
            gain = _points(loss.reverse)
            if group == LABEL_OFFSET and not self._is_offset_configs:
                found.append((f"{self._off_by_one()}: {gain}", ""))
                continue
            names = ("transpose", "size") if group == TRANSPOSE else GROUPS[group]
            keys = ", ".join(key for key in self.changes if key.partition(".")[2] in names)
            before, after = (self._name(it, group) for it in (self.found.configured, self.found.best))
            found.append((f"{keys}: {after}, not {before}: {gain}", self._as_good(group)))
        if self._is_lost:
            right = f"{self.bench.measure(self.found.best).top1:,} of {len(self.bench):,}"
            text = f"the model knows hardly any of these images, whatever the preprocessing: {right} are right"
            found.append((text, "is the truth about the model's classes?"))
        return found

    def _name(self, setting: Setting, group: str) -> str:
        """Of a group's values; without what the key's name says already."""
        name = name_of(group, setting, self.found.configured)
        return name if group == VALUES else name.removeprefix(f"{group} ")

    def _as_good(self, group: str) -> str:
        names = [option.name for option, it in self.found.tried if option.group == group and not self.is_worse(it)]
        return f"these images show no difference to {', '.join(names)}" if names else ""

    def _off_by_one(self) -> str:
        after = self.found.best.label_offset - self.found.configured.label_offset
        if self.truth.kind != INDEX:
            return "model.labels is off by one: its lines are not in the order of the model's classes"
        if after < 0:
            return "the truth counts classes from 1, and they count from 0: subtract 1 from its indices"
        return "the truth's indices are 1 too low: add 1 to them"

    def is_worse(self, comparison: Comparison) -> bool:
        """Whether a setting is shown to be worse than the best."""
        return comparison.reverse.is_better(self.found.comparisons)

    def failures(self) -> dict[str, list[Row]]:
        """Images that could not be used, by `error_type`."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.status == FAILED:
                found.setdefault(str(row.error_type), []).append(row)
        return found

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        measure, found = self.bench.measure, self.found
        return {
            "config_file": self.path,
            "passed": self.passed,
            "truth": {
                "path": self.truth_path, "column": self.truth.column, "kind": self.truth.kind,
                "left_out": self.truth.left_out,
            },
            "images": len(self.bench),
            "failures": [
                {"type": type, "count": len(rows), "examples": [row.uri for row in rows[:EXAMPLES]]}
                for type, rows in self.failures().items()
            ],
            "configured": _shares(measure(found.configured)),
            "best": _shares(measure(found.best)),
            "mistakes": [text for text, _ in self.mistakes()],
            "changes": self.changes,
            "overrides": self.overrides(),
            "groups": {group: _differences(comparison.reverse) for group, comparison in found.changes.items()},
            "tried": [
                {
                    "group": option.group, "name": option.name,
                    "keys": changed_keys(option.setting, found.configured),
                    **_shares(measure(option.setting)), **_differences(comparison),
                    "verdict": "worse" if self.is_worse(comparison) else "no difference",
                }
                for option, comparison in found.tried
            ],
            "comparisons": found.comparisons,
            "versions": dict(self.versions),
        }  # fmt: skip

    def overrides(self) -> list[str]:
        """The changes as `--set` takes them."""
        return [f"{key}={_yaml(value)}" for key, value in self.changes.items()]

    # The text.

    def print(self, console: Console) -> None:
        """Verdict and mistakes, what to change, then all that was measured."""
        mistakes = self.mistakes()
        word = "PASS" if self.passed else "FAIL"
        outcome = "as configured is best" if self.passed else f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}"
        if self.passed and len(self.bench) < FEW:
            outcome = f"nothing is shown to be better, but {len(self.bench)} images show little; take a few hundred"
        console.print(Text.assemble((word, STYLES[word]), f"  {self.path}: {outcome}"))
        console.print()
        if mistakes:
            print_pairs(console, [
                pair for text, remark in mistakes
                for pair in ((Text("mistake", STYLES["problem"]), text), (Text(), f"→ {remark}")) if pair[1] != "→ "
            ])  # fmt: skip
            console.print()
        self._print_shares(console)
        self._print_changes(console)
        self._print_tried(console)
        print_pairs(console, [(Text("images"), text) for text in self._about_images()])
        print_pairs(console, [(Text("method"), METHOD.format(self.found.comparisons))])

    def _print_shares(self, console: Console) -> None:
        table = Table.grid(padding=(0, 3))
        table.add_row("", "top-1", "top-5", style="bold")
        both = [("as configured", self.found.configured)]
        if self.found.changes:
            both.append(("best found", self.found.best))
        for name, setting in both:
            measured = self.bench.measure(setting)
            table.add_row(name, *(_with_interval(right, len(self.bench)) for right in (measured.top1, measured.top5)))
        print_table(console, table)
        if self.found.changes:
            overall = compare(self.bench.measure(self.found.configured), self.bench.measure(self.found.best))
            console.print(f"{_points(overall)}; {overall.gained:,} images gained, {overall.lost:,} lost")
        console.print()

    def _print_changes(self, console: Console) -> None:
        if not self.changes:
            return
        console.print(f"Change in {self.path}:\n")
        section = ""
        for key, value in self.changes.items():
            if key.partition(".")[0] != section:
                section = key.partition(".")[0]
                console.print(f"  {section}:", style="green")
            console.print(f"    {key.partition('.')[2]}: {_yaml(value)}", style="green")
        console.print("\nor try it first: " + shlex.join([f"--set={override}" for override in self.overrides()]) + "\n")

    def _print_tried(self, console: Console) -> None:
        """Each setting that differs from the best in one group: the worse ones, then those that cannot be told."""
        images = f"{len(self.bench):,} images"
        worse = [pair for pair in self.found.tried if self.is_worse(pair[1])]
        same = [pair for pair in self.found.tried if not self.is_worse(pair[1])]
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "right", "left"):
            table.add_column(justify=justify)
        best = "as configured" if not self.found.changes else "the best"
        for title, pairs in ((f"worse than {best}", worse), (f"no difference that {images} can show", same)):
            if pairs:
                table.add_row(title, "top-1", "top-5", "top-1, points (95%)", style="bold")
            for option, comparison in pairs:
                measured = self.bench.measure(option.setting)
                shares = (f"{right / len(self.bench):.1%}" for right in (measured.top1, measured.top5))
                table.add_row(f"  {option.name}", *shares, _difference(comparison))
        print_table(console, table)
        console.print()

    def _about_images(self) -> list[str]:
        by = f"column {self.truth.column}" if self.truth.column else "the names of their folders"
        lines = [f"{len(self.bench):,} of {len(self.truth.uris):,} in {self.truth_path}, their classes by {by}"]
        for type, rows in self.failures().items():
            lines.append(f"{len(rows):,} failed, {type}: {rows[0].error_message}, such as {rows[0].uri}")
        for reason, count in self.truth.left_out.items():
            lines.append(f"{count:,} rows left out: {reason}")
        return lines


_ORDER = [name for names in GROUPS.values() for name in ("size", *names)]


def _shares(measured: Measured) -> dict[str, Any]:
    count = len(measured.ranks)
    found: dict[str, Any] = {}
    for name, right in (("top1", measured.top1), ("top5", measured.top5)):
        found[name] = right / count
        found[f"{name}_interval"] = list(wilson(right, count))
    return found


def _differences(comparison: Comparison) -> dict[str, Any]:
    return {
        "difference": comparison.difference, "interval": list(comparison.interval), "lost": comparison.lost,
        "gained": comparison.gained, "p_answers": comparison.answers, "p_scores": comparison.scores,
    }  # fmt: skip


def _with_interval(right: int, count: int) -> str:
    low, high = wilson(right, count)
    return f"{right / count:.1%} ({low:.1%} to {high:.1%})"


def _points(comparison: Comparison) -> str:
    return f"top-1 {_difference(comparison, ' points')}"


def _difference(comparison: Comparison, unit: str = "") -> str:
    """Such as `-5.5 (-10.5 to -0.5)`, in points of a hundred."""
    low, high = (100 * bound for bound in comparison.interval)
    return f"{100 * comparison.difference:+.1f}{unit} ({low:+.1f} to {high:+.1f})"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
