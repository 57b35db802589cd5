"""A sample run through decoding and the model as a run does it, with nothing written and the time taken."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config import RunConfig
from pipeline.errors import HublabelError
from pipeline.graph import reading
from pipeline.reading import reader
from transforms.ahead import FilledBatch, batches
from transforms.classify import classify_images, fill_rows
from transforms.decode_images import open_picture
from transforms.model import Classifier, ModelCallError, ModelError
from transforms.read import TAR_MEMBER, uri_scheme
from transforms.records import OK, Columns, Row

STEADY = 5.0  # seconds that the rate is taken over, at least; local images are labelled again and again until then
LONGEST = 60.0  # seconds after which no more images are begun
KEPT = 64  # images whose outputs are kept, to be judged
LOCAL = ("", "file", TAR_MEMBER)


@dataclass
class Trial:
    """What became of a sample.

    Attributes:
        rows: those that were begun in time, labelled or failed, in the sample's order.
        outputs: of some of the labelled ones, by kind (`logits`, `probabilities`): float32 [n, classes].
        fed: smallest and largest value that the model was given; None without any image.
        rate: images a second once all is under way, failed ones included; None where there were too few to tell.
        seconds: an image's, by stage: `read` and `decode` of one thread, `model` with all processors.
        peak_memory: bytes of memory this process had at most, all of its libraries included.
    """

    rows: list[Row]
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    fed: tuple[float, float] | None = None
    rate: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0


def try_sample(
    rows: Sequence[Row],
    config: RunConfig,
    classifier: Classifier,
    columns: Columns,
    *,
    steady: float | None = None,
    longest: float = LONGEST,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[int], None] = lambda done: None,  # noqa: ARG005
) -> Trial:
    """Label `rows` as a run would, and see how fast that goes.

    Args:
        columns: as for a run; `top_k` and what else it has is filled into the rows.
        steady, longest: seconds, see `STEADY` (which None stands for) and `LONGEST`.
        clock: monotonic seconds.
        progress: called with the images done so far.

    Raises:
        HublabelError: the model fails even on a blank picture.
    """
    steady = STEADY if steady is None else steady
    stop = _Stop(clock() + longest)
    feed = _feed(rows, stop, steady, clock)
    trial = _Work(config, classifier, columns)
    times: list[tuple[float, int]] = []  # after each batch: when, and how many images
    spec = config.preprocessing()
    run = batches(feed, spec, config.batch.size, reader(config), open_picture, **reading(config.run))
    for batch in run:
        trial.take(batch, first=len(trial.rows) < len(rows), wanted=len(rows))
        times.append((clock(), trial.done))
        if len(times) == 1:
            stop.again = times[0][0] + steady
        progress(min(trial.done, len(rows)))
    return trial.result(_rate(times))


@dataclass
class _Stop:
    """When to begin no more images, in the clock's seconds.

    Attributes:
        first: of the sample itself.
        again: of the rounds after it; None as long as no batch is through.
    """

    first: float
    again: float | None = None


def _feed(rows: Sequence[Row], stop: _Stop, steady: float, clock: Callable[[], float]) -> Iterator[Row]:
    """The sample once, and then again and again, as long as there is time; images that are not local only once."""
    for row in rows:
        if clock() > stop.first:
            return
        yield row
    again = [row for row in rows if row.error_type not in ("bad_line", "crashed")]
    if not again or not all(uri_scheme(row.source or row.uri) in LOCAL for row in again):
        return
    latest = clock() + steady  # should there never be a batch
    for position in itertools.count(len(rows)):
        if clock() > min(stop.first, latest if stop.again is None else stop.again):
            return
        row = again[position % len(again)]
        yield Row(position, position, row.uri, source=row.source)


class _Work:
    """What is done with each batch."""

    def __init__(self, config: RunConfig, classifier: Classifier, columns: Columns) -> None:
        self._activation, self._classifier, self._columns = config.model.activation, classifier, columns
        self.rows: list[Row] = []
        self.done = 0
        self._outputs: dict[str, list[np.ndarray]] = {}
        self._fed = (np.inf, -np.inf)
        self._seconds = {"read": 0.0, "decode": 0.0, "model": 0.0}

    def take(self, batch: FilledBatch, first: bool, wanted: int) -> None:
        """Label a batch.

        Args:
            first: whether there may be images in it that have not been before.
            wanted: images of the sample: rows from this position on are repetitions.
        """
        self.done += len(batch.rows) + len(batch.failed)
        began = time.perf_counter()
        if batch.images is not None and batch.rows:
            try:
                outputs, errors = classify_images(self._classifier, batch.images, len(batch.rows))
            except ModelCallError as error:
                raise HublabelError(f"the model fails on every image, even a blank one: {error}") from None
            except ModelError as error:  # of another engine than TensorFlow, whose outputs differ
                raise HublabelError(str(error)) from None
            self._seconds["model"] += time.perf_counter() - began
            if first:
                fill_rows(batch.rows, outputs, errors, self._activation, self._columns)
                self._look_at(batch.images[: len(batch.rows)], outputs, batch.rows, wanted)
        for stage, seconds in batch.seconds.items():
            self._seconds[stage] += seconds
        self.rows += [row for row in [*batch.rows, *batch.failed] if row.position < wanted]

    def _look_at(self, images: np.ndarray, outputs: dict[str, np.ndarray], rows: list[Row], wanted: int) -> None:
        self._fed = (min(self._fed[0], float(images.min())), max(self._fed[1], float(images.max())))
        labelled = [slot for slot, row in enumerate(rows) if row.status == OK and row.position < wanted]
        for kind in ("logits", "probabilities"):
            kept = self._outputs.setdefault(kind, [])
            if kind in outputs and sum(map(len, kept)) < KEPT:
                kept.append(outputs[kind][labelled[:KEPT]])

    def result(self, rate: float | None) -> Trial:
        outputs = {kind: np.concatenate(kept) for kind, kept in self._outputs.items() if kept}
        each = {stage: seconds / self.done for stage, seconds in self._seconds.items()} if self.done else {}
        fed = None if self._fed[0] > self._fed[1] else self._fed
        rows = sorted(self.rows, key=lambda row: row.position)
        return Trial(rows, outputs, fed, rate, each, peak_memory())


def _rate(times: Sequence[tuple[float, int]]) -> float | None:
    """Images a second between the first batch and the last: the first waits for its images, later ones need not."""
    if len(times) < 3:
        return None
    (began, before), (ended, after) = times[0], times[-1]
    return (after - before) / (ended - began) if ended > began else None


def peak_memory() -> int:
    """Bytes this process has had in memory at most (getrusage(2): kibibytes on Linux, bytes on macOS)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
