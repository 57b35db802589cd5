"""What a lower precision changes: the model's outputs against TensorFlow's in float32, on images of the run itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from pipeline.config import RunConfig
from pipeline.loading import model_spec
from pipeline.reading import reader
from pipeline.record import RunRecord
from transforms.engines.engine import Outputs
from transforms.engines.reference import Reference
from transforms.model import Classifier, ModelCallError, ModelError, load_classifier
from transforms.records import Row, Shard
from transforms.storage import Storage

NAME = "agreement.json"
IMAGES = 128  # of the sample
SHARDS = 8  # that they are taken from, spread over the run


@dataclass(frozen=True)
class Agreement:
    """How far a precision agrees with float32.

    Attributes:
        precision: what the run's engine multiplies in.
        reference: what it is compared with.
        images: of the sample; 0 where none could be read.
        top1: share of them with the same best class, 0 to 1; None without classes or images.
        score_difference: largest absolute difference of a class's scores; None as well.
        output_difference: by output, the largest difference as a part of the largest value.
    """

    precision: str
    reference: str
    images: int
    top1: float | None
    score_difference: float | None
    output_difference: dict[str, float]

    def __str__(self) -> str:
        if not self.images:
            return f"{self.precision} could not be compared with float32: no image of the sample could be labelled"
        found = []
        if self.top1 is not None:
            found.append(f"the same best class for {self.top1:.1%}")
            found.append(f"scores differ by up to {self.score_difference:.2g}")
        found += [f"{kind} by up to {part:.2g} of the largest" for kind, part in self.output_difference.items()]
        return f"{self.precision} against float32 ({self.reference}) on {self.images} images: {', '.join(found)}"


class Sample(NamedTuple):
    """Batches of images and, of those in each that are no padding, the outputs."""

    batches: Sequence[np.ndarray]
    outputs: Sequence[Outputs]


@contextmanager
def float32_reference(config: RunConfig, record: RunRecord, storage: Storage) -> Iterator[Reference | None]:
    """What to compare with, which starts while the caller does else; None where a run has nothing to compare.

    That is in float32, or when an earlier session has done it.
    """
    if config.model.precision == "float32" or storage.exists(NAME):
        yield None
        return
    with closing(Reference(model_spec(config, record.model, record.model_fingerprint))) as reference:
        yield reference


@contextmanager
def telling_agreement(
    reference: Reference | None,
    config: RunConfig,
    record: RunRecord,
    storage: Storage,
    shards: Sequence[Shard],
    say: Callable[[str], None],
) -> Iterator[None]:
    """Measure, once a run, what its precision changes; say it and keep it. TensorFlow computes beside the body.

    Args:
        reference: see `float32_reference`.
        shards: what is to be labelled.
        say: takes one line for people.

    Raises:
        ModelError: before the body: TensorFlow does not take the model.
    """
    if reference is None:
        yield
        return
    classifier = load_classifier(model_spec(config, record.model, record.model_fingerprint))
    sample = sample_outputs(filled_batches(config, _rows(record, shards), classifier), classifier)
    reference.load()

    def tell() -> None:
        try:
            agreement = agreement_on(sample, config, reference)
        except ModelError as error:
            say(f"{config.model.precision} could not be compared with float32: {error}")
            return
        storage.replace(NAME, (json.dumps(asdict(agreement), indent=2) + "\n").encode())
        say(str(agreement))

    with ThreadPoolExecutor(1, "agreement") as pool:
        told = pool.submit(tell)
        try:
            yield
        except BaseException:
            reference.close()  # nobody waits for it
            raise
        told.result()


def sample_outputs(given: Iterable[tuple[np.ndarray, int]], classifier: Classifier) -> Sample:
    """What `classifier` says of a sample.

    Args:
        given: batches of images, and how many in each are no padding.
    """
    batches, found = [], []
    for images, count in given:
        try:
            outputs = classifier(images)
        except ModelCallError:  # of an image in it; the run will say which
            continue
        batches.append(images)
        found.append({kind: output[:count] for kind, output in outputs.items()})
    return Sample(batches, found)


def agreement_on(sample: Sample, config: RunConfig, reference: Reference) -> Agreement:
    """Compare what was said of `sample` with what TensorFlow does in float32.

    Raises:
        ModelError: TensorFlow does not take the model, or its process died.
    """
    if not sample.batches:
        return Agreement(config.model.precision, "", 0, None, None, {})
    pairs = [
        (ours, {kind: output[: len(ours[kind])] for kind, output in theirs.items()})
        for ours, theirs in zip(sample.outputs, reference.outputs(sample.batches), strict=True)
        if not isinstance(theirs, str)
    ]
    return _agreement(config, reference.title, pairs)


def filled_batches(config: RunConfig, rows: Sequence[Row], classifier: Classifier) -> Iterator[tuple[np.ndarray, int]]:
    """Images of `rows`, a few at a time, and how many of them are no padding."""
    from pipeline.graph import reading
    from transforms.ahead import batches
    from transforms.decode_images import open_picture

    spec, read = config.preprocessing(), reader(config)
    for batch in batches(rows, spec, classifier.compared, read, open_picture, **reading(config.run)):
        if batch.images is not None and batch.rows:
            yield batch.images, len(batch.rows)


def _rows(record: RunRecord, shards: Sequence[Shard]) -> list[Row]:
    from transforms.decode_images import shard_rows

    chosen = _spread(shards, SHARDS)
    rows = [row for shard in chosen for row in _spread(shard_rows(record.output, shard), IMAGES // len(chosen))]
    for position, row in enumerate(rows):  # as if they were one shard
        row.position = position
    return rows


def _spread(items: Sequence, count: int) -> list:
    """At most `count` of `items`, at equal distances."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def _agreement(config: RunConfig, reference: str, pairs: Sequence[tuple[Outputs, Outputs]]) -> Agreement:
    """Of outputs in the run's precision and in float32, batch by batch; images without finite ones do not count."""
    from transforms.classify import activate

    precision = config.model.precision
    kinds: list[str] = list(config.model.outputs) if pairs else []
    ours, theirs = ({kind: np.concatenate([pair[side][kind] for pair in pairs]) for kind in kinds} for side in (0, 1))
    finite = np.all([np.isfinite(side[kind]).all(axis=1) for side in (ours, theirs) for kind in kinds], axis=0)
    images = int(np.sum(finite)) if kinds else 0
    if not images:
        return Agreement(precision, reference, 0, None, None, {})
    ours, theirs = ({kind: output[finite] for kind, output in side.items()} for side in (ours, theirs))
    differences = {kind: _part(np.abs(ours[kind] - theirs[kind]).max(), np.abs(theirs[kind]).max()) for kind in kinds}
    if not config.model.classifies:
        return Agreement(precision, reference, images, None, None, differences)
    given = "probabilities" if "probabilities" in kinds else "logits"
    scores, exact = (activate(side[given], config.model.activation) for side in (ours, theirs))
    top1 = float(np.mean(scores.argmax(axis=1) == exact.argmax(axis=1)))
    return Agreement(precision, reference, images, top1, float(np.abs(scores - exact).max()), differences)


def _part(difference: float, largest: float) -> float:
    return float(difference / largest) if largest else float(difference)
