"""What `hublabel check` found, as a text and as plain values for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.check.findings import PROBLEM, Finding
from pipeline.check.forecast import Forecast
from pipeline.check.sample import AT_LEAST, EXACT, Sample
from pipeline.check.trial import Trial
from pipeline.progress import readable_seconds
from transforms.masking import mask_credentials
from transforms.records import FAILED, OK, Row

EXAMPLES = 3  # URIs of failed images by reason
LABELS = 5
STYLES = {"PASS": "bold green", "FAIL": "bold red", "problem": "red", "doubt": "yellow"}


@dataclass(frozen=True)
class Summary:
    """One check.

    Attributes:
        config: the file, as the user named it.
        findings: problems first.
        sample: what was drawn; `trial` has what was labelled of it in time.
        labels: names of the classes, None for indices.
        label_offset: classes before the first label.
        model: what it is and takes, by name, for people.
        resolved: the resolved config.
        versions: of the software.
    """

    config: str
    findings: Sequence[Finding]
    sample: Sample
    trial: Trial
    forecast: Forecast | None
    labels: Sequence[str] | None
    label_offset: int
    model: Mapping[str, str]
    resolved: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not any(finding.severity == PROBLEM for finding in self.findings)

    @property
    def failed_rows(self) -> dict[str, list[Row]]:
        """Failed images by `error_type`, the most frequent first."""
        found: dict[str, list[Row]] = {}
        for row in self.trial.rows:
            if row.status == FAILED:
                found.setdefault(str(row.error_type), []).append(row)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def label_counts(self) -> list[tuple[str, int]]:
        """The best labels of the sample, the most frequent first."""
        counts = Counter(int(row.classes[0]) for row in self.trial.rows if row.classes is not None)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(self._name(index - self.label_offset), count) for index, count in ordered]

    def _name(self, index: int) -> str:
        if index < 0:
            return "background"
        return str(index) if self.labels is None or index >= len(self.labels) else self.labels[index]

    @property
    def scores(self) -> tuple[float, float, float] | None:
        """Smallest, middle and largest best score."""
        found = [float(row.scores[0]) for row in self.trial.rows if row.scores is not None]
        return (min(found), float(np.median(found)), max(found)) if found else None

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        trial, sample, forecast = self.trial, self.sample, self.forecast
        labelled = sum(1 for row in trial.rows if row.status == OK)
        return {
            "config_file": self.config,
            "passed": self.passed,
            "findings": [asdict(finding) for finding in self.findings],
            "images": {"count": sample.images, "counted": sample.counted, "left_out": sample.left_out},
            "sample": {"images": len(trial.rows), "labelled": labelled, "failed": len(trial.rows) - labelled},
            "failures": [
                {"type": type, "count": len(rows), "message": rows[0].error_message,
                 "examples": [row.uri for row in rows[:EXAMPLES]]}
                for type, rows in self.failed_rows.items()
            ],
            "labels": [{"label": label, "count": count} for label, count in self.label_counts],
            "scores": dict(zip(("least", "median", "most"), self.scores, strict=True)) if self.scores else None,
            "images_per_second": trial.rate,
            "seconds_per_image": trial.seconds,
            "forecast": None if forecast is None else {
                "seconds_here": forecast.here, "workers": forecast.workers, "seconds": forecast.together,
                "price_per_hour": forecast.price, "cost": forecast.cost,
            },
            "peak_memory_bytes": trial.peak_memory,
            "values_fed": trial.fed,
            "model": dict(self.model),
            "versions": dict(self.versions),
            "config": dict(self.resolved),
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """The text: verdict, problems and doubts, then what was seen, then the config."""
        console.print(self._verdict())
        console.print()
        if self.findings:
            print_pairs(console, _findings(self.findings))
            console.print()
        facts = [
            (name if not number else "", line) for name, lines in self._facts() for number, line in enumerate(lines)
        ]
        print_pairs(console, [(Text(name, "bold"), line) for name, line in facts])
        console.print("\nWhat the config resolved to", style="bold")
        console.print(_as_yaml(self.resolved))

    def _verdict(self) -> Text:
        problems = sum(1 for finding in self.findings if finding.severity == PROBLEM)
        doubts = len(self.findings) - problems
        counts = [_counted(problems, "problem")] if problems else ["nothing that would spoil a run"]
        counts += [_counted(doubts, "doubt")] if doubts else []
        word = "PASS" if self.passed else "FAIL"
        return Text.assemble((word, STYLES[word]), f"  {self.config}: {', '.join(counts)}")

    def _facts(self) -> list[tuple[str, list[str]]]:
        facts = [("images", self._images()), ("failed", self._failures())]
        if self.scores:
            best = [f"{label} ({count})" for label, count in self.label_counts[:LABELS]]
            rest = len(self.label_counts) - len(best)
            facts.append(("labels", ["; ".join(best) + (f" and {rest:,} more" if rest else "")]))
            least, middle, most = self.scores
            facts.append(("scores", [f"the best of each image: {least:.3f} to {most:.3f}, {middle:.3f} in the middle"]))
        facts.append(("rate", self._rate()))
        facts.append(("time", self._time()))
        memory = self.trial.peak_memory / 2**20
        facts.append(("memory", [f"{memory:,.0f} MiB at most, in this process"]))
        facts += [(name, [text]) for name, text in self.model.items()]
        return [(name, lines) for name, lines in facts if lines]

    def _images(self) -> list[str]:
        sample = self.sample
        count = {EXACT: "", AT_LEAST: "at least "}.get(sample.counted, "about ") + f"{sample.images:,}"
        if sample.left_out:
            left_out = (f"{number:,} {reason.replace('_', ' ')}" for reason, number in sample.left_out.items())
            count += f" (left out: {', '.join(left_out)})"
        drawn = len(self.trial.rows)
        labelled = sum(1 for row in self.trial.rows if row.status == OK)
        which = "all of them" if drawn == sample.images else f"{drawn:,} of them, picked from all over"
        if sample.counted == AT_LEAST:
            which = f"{drawn:,} of those that were found in time"
        return [count, f"tried: {which}: {labelled:,} labelled, {drawn - labelled:,} failed"]

    def _failures(self) -> list[str]:
        lines = []
        for type, rows in self.failed_rows.items():
            lines.append(f"{len(rows):,} {type}: {rows[0].error_message}")
            lines += [f"  {row.uri}" for row in rows[:EXAMPLES]]
        return lines

    def _rate(self) -> list[str]:
        trial = self.trial
        each = ", ".join(f"{stage} {1000 * trial.seconds[stage]:.1f} ms" for stage in ("read", "decode", "model")
                         if stage in trial.seconds)  # fmt: skip
        if trial.rate is None:
            return ["too few images to tell", f"an image: {each}"] if each else []
        return [f"{trial.rate:,.1f} images/s here, decoding and labelling ({each} an image)"]

    def _time(self) -> list[str]:
        if self.forecast is None:
            return []
        at_least = " at least" if self.sample.counted == AT_LEAST else ""
        lines = [f"all images:{at_least} {_readable(self.forecast.here)} here, once it labels"]
        if self.forecast.workers > 1:
            together = _readable(self.forecast.together)
            lines.append(f"{together} on {self.forecast.workers:,} workers like this machine")
        if self.forecast.cost is not None:
            cost = f"{self.forecast.cost:,.2f}" if self.forecast.cost >= 0.01 else "less than 0.01"
            lines.append(f"cost: {cost} at {self.forecast.price:,.2f} a machine's hour")
        return lines


def _readable(seconds: float) -> str:
    return readable_seconds(seconds) if seconds >= 1 else "less than a second"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _findings(findings: Sequence[Finding]) -> list[tuple[Text, str]]:
    lines = []
    for finding in findings:
        lines.append((Text(finding.severity, STYLES[finding.severity]), finding.text))
        if finding.advice:
            lines.append((Text(), f"→ {finding.advice}"))
    return lines


def print_pairs(console: Console, pairs: Sequence[tuple[Text, str]]) -> None:
    """Two columns, the second wrapped to the width that there is."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(name, Text(mask_credentials(text)))
    print_table(console, table)


def print_table(console: Console, table: Table) -> None:
    """Without the blanks that rich fills lines up with."""
    with console.capture() as captured:
        console.print(table, soft_wrap=False)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")


def _as_yaml(resolved: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(resolved), sort_keys=False, default_flow_style=None, width=100)
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())
