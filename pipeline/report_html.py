"""`report.html`: a run as a page to look at, written when it is done and by `hublabel report OUT`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import RunConfig, config_from_resolved
from pipeline.console import plain_console
from pipeline.coverage import Coverage
from pipeline.errors import HublabelError
from pipeline.html import plots
from pipeline.html.page import duration, render, shown
from pipeline.html.sheet import make_cards, thumbnails
from pipeline.plan import LEFT_OUT_WORDS
from pipeline.query import open_output
from pipeline.record import NAME as RECORD
from pipeline.record import RunRecord
from pipeline.report import NAME as REPORT
from pipeline.report import masked_config
from pipeline.report_facts import Bin, Facts, gather_facts
from pipeline.report_rate import Rate, local_time, rate_over_time
from transforms.storage import Storage

NAME = "report.html"
LABEL_BARS = 30
LABEL_ROWS = 1000
NAME_LIMIT = 200  # characters of a label in a plot
CARDS = 12  # examples without thumbnails
CONFIG_LIMIT = 50_000  # characters: a list of inputs may be long
ACTIVATIONS = {
    "softmax": "a softmax over all classes",
    "sigmoid": "a sigmoid for each class",
    "none": "as the model gives it",
}


def report_command(output: str, file: str | None, overrides: dict[str, Any]) -> int:
    """Write the report of the run in `output`, finished or not, and say where it is.

    Args:
        file: where to; None for `report.html` in the output.
        overrides: keys of the config's `report` section.

    Raises:
        UsageError: there is no run in `output`, or no image has been labelled yet.
        HublabelError: the file cannot be written.
    """
    storage, record = open_output(output)
    page = make_page(storage, record, overrides=overrides)
    if file is None:
        storage.replace(NAME, page.encode())
    else:
        try:
            Path(file).write_text(page, encoding="utf-8")
        except OSError as error:
            raise HublabelError(f"--file: {file} cannot be written: {error.strerror}") from None
    plain_console().print(f"report: {file or f'{output}/{NAME}'}")
    return 0


def write_page(storage: Storage, record: RunRecord, coverage: Coverage) -> None:
    """Write `report.html` into the output."""
    storage.replace(NAME, make_page(storage, record, coverage).encode())


def make_page(
    storage: Storage, record: RunRecord, coverage: Coverage | None = None, overrides: dict[str, Any] | None = None
) -> str:
    """The report as HTML.

    Args:
        coverage: of the run, refreshed; None to look.
        overrides: keys of the config's `report` section.

    Raises:
        UsageError: there is no part yet, or run.yaml is of another version.
        HublabelError, DamagedPartError: the rows of a part cannot be read.
    """
    values = {**record.config, "report": {**record.config.get("report", {}), **(overrides or {})}}
    config = config_from_resolved(values, f"{storage.root}/{RECORD}")
    if coverage is None:
        coverage = Coverage(storage, record.plan, record.fingerprint)
        coverage.refresh()
    facts = gather_facts(storage, record, config.report.thumbnails or CARDS)
    rate = rate_over_time(coverage.footers())
    return render(
        "report.html",
        _plots(facts, rate),
        outcome={
            "complete": coverage.covered, "images": coverage.rows, "planned": record.plan.rows,
            "failed": coverage.failed, "labelled": coverage.rows - coverage.failed,
        },
        facts=facts,
        median_score=_median(facts.scores),
        bytes=sum(format.bytes for format in facts.formats),
        rate=rate and {"pauses": rate.pauses, "told_pauses": ", ".join(duration(gap) for _, gap in rate.pauses)},
        parts=coverage.shards,
        stages=sorted(coverage.seconds.items(), key=lambda item: -item[1]),
        most_seconds=max(coverage.seconds.values(), default=0) or 1,
        label_bars=LABEL_BARS,
        label_rows=LABEL_ROWS,
        sections=_sections(facts),
        **_examples(facts, config),
        **_run(storage, record, config),
    )  # fmt: skip


def _run(storage: Storage, record: RunRecord, config: RunConfig) -> dict[str, Any]:
    """What is told of the run itself."""
    done = _json_report(storage)
    left_out = {why: count for why, count in record.plan.left_out.items() if count}
    fingerprints = {"run": record.fingerprint, "plan": record.plan.fingerprint}
    fingerprints |= {name: record.pins[name] for name in ("model files", "label file") if record.pins.get(name)}
    return {
        "name": os.path.basename(storage.root.rstrip("/")) or storage.root,
        "output": storage.root,
        "model": config.model.handle,
        "inputs": config.input.path if isinstance(config.input.path, str) else ", ".join(config.input.path),
        "activation": ACTIVATIONS[config.model.activation],
        "finished": str(done.get("finished", "")).replace("T", " ").replace("Z", " UTC"),
        "session": done.get("last_session"),
        "left_out": ", ".join(f"{count:,} {LEFT_OUT_WORDS.get(why, why)}" for why, count in left_out.items()),
        "config": shown(yaml.safe_dump(masked_config(record), sort_keys=False, allow_unicode=True), CONFIG_LIMIT),
        "versions": list(record.versions.items()),
        "fingerprints": list(fingerprints.items()),
        "written": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def _sections(facts: Facts) -> list[tuple[str, str]]:
    found = [("examples", "Examples"), ("labels", "Labels"), ("scores", "Scores")] if facts.labels else []
    return [*found, ("failures", "Failures"), ("rate", "Rate"), ("files", "Sizes and formats"), ("run", "The run")]


def _json_report(storage: Storage) -> dict[str, Any]:
    """report.json, or nothing where there is none (yet)."""
    try:
        found = json.loads(storage.read(REPORT))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _examples(facts: Facts, config: RunConfig) -> dict[str, Any]:
    """The contact sheets, as title and cards, and whether there are pictures to go with them."""
    names = {label.index: label.label for label in facts.labels}
    general = [("Confident" if facts.doubtful else "By falling score", facts.confident), ("Doubtful", facts.doubtful)]
    by_label = [(names[index], rows) for index, rows in facts.by_label.items()]
    pictures = thumbnails(facts.rows, [row for _, rows in general + by_label for row in rows], config)
    sheets, label_sheets = (
        [(title, make_cards(facts.rows, rows, pictures)) for title, rows in groups if rows]
        for groups in (general, by_label)
    )
    why = next((picture.why for picture in pictures.values()), "")
    return {
        "sheets": sheets,
        "label_sheets": label_sheets,
        "pictures": any(picture.data for picture in pictures.values()),
        "why_no_pictures": f"Without pictures: {why}.",
    }


def _plots(facts: Facts, rate: Rate | None) -> dict[str, plots.Spec]:
    found = {}
    if facts.labels:
        top = [(shown(label.label, NAME_LIMIT), label.images) for label in facts.labels[:LABEL_BARS]]
        found["labels"] = plots.bars("Images by label", top, "images", sum(label.images for label in facts.labels))
        domain = _domain(facts.scores)
        found["scores"] = _histogram("Images by score", facts.scores, "score", format=".2f", domain=domain)
    if facts.pixels:
        pixels = [Bin(bin.start / 1e6, bin.end / 1e6, bin.images) for bin in facts.pixels]
        found["pixels"] = _histogram("Images by megapixels", pixels, "megapixels", logarithmic=True)
    if facts.file_sizes:
        options = {"logarithmic": True, "format": ".3~s"}
        found["file_sizes"] = _histogram("Images by size of the file", facts.file_sizes, "bytes", **options)
    if rate:
        points = [(start, end, images, local_time(when)) for start, end, images, when in rate.points]
        pauses = [(at, f"a pause of {duration(gap)}") for at, gap in rate.pauses]
        found["rate"] = plots.rate("Images a second over the time worked", points, pauses)
    return found


def _histogram(description: str, bins: list[Bin], title: str, **options: Any) -> plots.Spec:
    return plots.histogram(description, [(bin.start, bin.end, bin.images) for bin in bins], title, **options)


def _domain(bins: list[Bin]) -> tuple[float, float]:
    inside = bins[0].start >= 0 and bins[-1].end <= 1 + 1e-9
    return (0, 1) if inside else (bins[0].start, bins[-1].end)


def _median(bins: list[Bin]) -> float | None:
    """The median by the histogram, exact to a part of a bin."""
    half = sum(bin.images for bin in bins) / 2
    for bin in bins:
        if half <= bin.images:
            return bin.start + (bin.end - bin.start) * half / bin.images
        half -= bin.images
    return None
