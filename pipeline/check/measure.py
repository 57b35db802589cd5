"""Pictures decoded once, and what a model makes of them under any preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.check.settings import Setting
from pipeline.errors import HublabelError
from transforms.ahead import as_image_error
from transforms.buffers import BATCHES
from transforms.classify import classify_images
from transforms.decode import decode_image
from transforms.header import check_limits, read_header
from transforms.model import Classifier, ModelCallError, ModelError
from transforms.pools import DECODED_PIXELS, processors
from transforms.preprocessing import Preprocessing
from transforms.read import ReadBytes
from transforms.records import Row
from transforms.resize import prepare

KEPT_BYTES = 2 << 30  # of decoded pictures; others are decoded anew each time
READERS = 16  # threads
LEAST = 1e-12  # a probability; log(0) would outweigh all other images


@dataclass(frozen=True)
class Measured:
    """What a model makes of labelled pictures under one setting.

    Attributes:
        ranks: int64 [N]: classes before the true one, 0 when it is the best.
        log_probabilities: float64 [N]: natural logarithm of what the model gives the true class, at least log(1e-12).
    """

    ranks: np.ndarray
    log_probabilities: np.ndarray

    @cached_property
    def right(self) -> np.ndarray:
        """bool [N]: the true class is the best."""
        return self.ranks == 0

    @property
    def top1(self) -> int:
        """Pictures whose best class is right."""
        return int(self.right.sum())

    @property
    def top5(self) -> int:
        """Pictures with the right class among the best five."""
        return int((self.ranks < 5).sum())


class Picture:
    """A picture as its decoder gives it: kept while there is memory, else decoded anew each time."""

    def __init__(self, data: bytes, spec: Preprocessing) -> None:
        """Raises ImageError, or what a library raises, when it cannot be decoded."""
        self._spec = spec
        self._header = read_header(data, spec.allow_truncated)
        check_limits(self._header, data, spec)
        self._data: bytes | None = data
        self._pixels: np.ndarray | None = None

    def keep(self) -> int:
        """Keep what is decoded; returns its bytes."""
        self._pixels, self._data = self.pixels(), None
        return self._pixels.nbytes

    def pixels(self) -> np.ndarray:
        """uint8 `[H, W, 3]` RGB."""
        if self._pixels is not None:
            return self._pixels
        assert self._data is not None
        with DECODED_PIXELS.hold(self._header.width * self._header.height):
            return decode_image(self._data, self._header, self._spec)


def open_pictures(
    rows: Sequence[Row], spec: Preprocessing, read: ReadBytes, progress: Callable[[int], None] = lambda done: None  # noqa: ARG005
) -> list[Picture | None]:  # fmt: skip
    """Read and decode the pictures of `rows`, each once.

    Args:
        rows: get their error when they fail; those that have one are left as they are.
        spec: limits and decoder; pictures are decoded whole, whatever filter comes after.
        progress: called with the pictures done so far.

    Returns:
        In the order of `rows`; None for those that failed.
    """
    whole = replace(spec, antialias=False)
    kept = 0

    def open_one(row: Row) -> Picture | None:
        nonlocal kept
        if row.error_stage is not None:
            return None
        stage = "read"
        try:
            data = read(row.source or row.uri, spec.max_bytes)
            stage = "decode"
            picture = Picture(data, whole)
            if kept < KEPT_BYTES:  # some more by the threads at work, which is no harm
                kept += picture.keep()
            else:
                picture.pixels()
        except Exception as error:
            row.fail(as_image_error(stage, error))
            return None
        return picture

    pictures = []
    with ThreadPoolExecutor(READERS, "open") as pool:
        for done, picture in enumerate(pool.map(open_one, rows), start=1):
            pictures.append(picture)
            progress(done)
    return pictures


class Bench:
    """Labelled pictures, and a model to try them on.

    Args:
        pictures: N of them.
        classes: int64 [N], the true ones, without offset.
        offsets: label offsets that may be asked for.
        classifier: takes batches of any image shape that its settings have.
        kind: which of its outputs gives the scores: `logits` or `probabilities`; an attribute too.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        classes: np.ndarray,
        offsets: Sequence[int],
        classifier: Classifier,
        kind: str,
    ) -> None:
        self._pictures, self._classes, self._offsets = pictures, classes, tuple(offsets)
        self._classifier, self.kind = classifier, kind
        self._threads = ThreadPoolExecutor(processors(), "prepare")
        self._known: dict[Setting, Measured] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def measure(self, setting: Setting) -> Measured:
        """What the model makes of all pictures under `setting`; each setting is computed once.

        Raises:
            HublabelError: the model fails even on blank pictures.
        """
        if setting not in self._known:
            probabilities = np.concatenate(list(self._log_probabilities(setting.image)))
            for offset in self._offsets:
                found = _measured(probabilities, self._classes + offset)
                self._known[Setting(setting.image, offset)] = found
        return self._known[setting]

    def is_known(self, setting: Setting) -> bool:
        """Whether it was measured before."""
        return setting in self._known

    def _log_probabilities(self, spec: Preprocessing) -> Iterator[np.ndarray]:
        size = self._classifier.spec.batch_size
        images = BATCHES.empty((size, *spec.model_shape), spec.dtype)
        for start in range(0, len(self._pictures), size):
            pictures = self._pictures[start : start + size]
            images[len(pictures) :] = 0
            list(self._threads.map(lambda picture, slot: prepare(picture.pixels(), spec, slot), pictures, images))
            yield self._of_batch(images, len(pictures))

    def _of_batch(self, images: np.ndarray, count: int) -> np.ndarray:
        """Of each class, float64 [count, classes]; -inf throughout where the model fails on the picture."""
        try:
            outputs, errors = classify_images(self._classifier, images, count)
        except ModelCallError as error:
            raise HublabelError(f"the model fails on every image, even a blank one: {error}") from None
        except ModelError as error:  # of another engine than TensorFlow, whose outputs differ
            raise HublabelError(str(error)) from None
        if len(errors) == count:
            return np.full((count, self._classifier.lengths[self.kind]), -np.inf)
        scores = outputs[self.kind].astype(np.float64)
        with np.errstate(invalid="ignore"):  # of pictures among the errors
            found = _log_softmax(scores) if self.kind == "logits" else np.log(np.maximum(scores, LEAST))
        found[sorted(errors)] = -np.inf
        return found


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Float64 [B, n]. The classes keep their order, also where the model's own scores are sigmoids of the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _measured(found: np.ndarray, classes: np.ndarray) -> Measured:
    """Rank and log-probability of `classes`; of a class that the model does not have, as bad as can be."""
    count = found.shape[1]
    there = (classes >= 0) & (classes < count)
    column = np.where(there, classes, 0)[:, None]
    own = np.take_along_axis(found, column, axis=1)
    # As `classify.top_k`: equal scores by rising class.
    before = (found > own) | ((found == own) & (np.arange(count) < column))
    broken = ~np.isfinite(own[:, 0]) | ~there
    ranks = np.where(broken, count, before.sum(axis=1))
    floor = np.log(LEAST)
    return Measured(ranks, np.where(broken, floor, np.maximum(own[:, 0], floor)))
