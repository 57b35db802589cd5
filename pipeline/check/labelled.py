"""The images of a truth that a check is made on."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.inputs import find_inputs, read_input
from pipeline.pinning import table_reading
from pipeline.truth import FOLDERS, Truth, folder_truth, read_truth
from transforms.masking import mask_credentials
from transforms.read import local_path, uri_scheme
from transforms.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED_FOR = 100  # images of a truth that are looked for on disk
INPUT_IMAGES = 1_000_000  # of the input that are looked at, at most


def truth_of(path: str, config: RunConfig, labels: Sequence[str] | None, column: str | None) -> Truth:
    """What `--truth` names: what `read_truth` reads, or `folders`: the input's images in folders named for their class.

    Raises:
        UsageError: it cannot be read, or a value is no class.
    """
    if path == FOLDERS:
        return folder_truth(_input_uris(config), labels, "--truth folders")
    found = config.input
    return read_truth(path, labels, column, uri_column=found.uri_column, on_bad_line=found.on_bad_line)


def labelled_images(truth: Truth, config: RunConfig, images: int) -> tuple[list[Row], np.ndarray]:
    """At most `images` of a truth's images, picked at random, the same ones each time.

    They are those that the truth names. Where it names files that are not there, they are the images of the input that
    have their names.

    Returns:
        Their rows, and their classes, int64, in the same order.

    Raises:
        UsageError: none of the images is there.
    """
    uris, classes = truth.uris, truth.classes
    if not _are_there(uris.to_pylist()[:LOOKED_FOR]):
        uris, classes = _of_input(truth, config)
    picked = sorted(random.Random(0).sample(range(len(uris)), min(images, len(uris))))
    rows = [Row(index, position, uris[index].as_py()) for position, index in enumerate(picked)]
    return rows, np.array([classes[index].as_py() for index in picked], np.int64)


def _are_there(uris: Sequence[str]) -> bool:
    """Whether any of the images is on disk, or somewhere that cannot be looked at without reading it."""
    return any(
        uri_scheme(uri) not in ("", "file") or os.path.exists(local_path(uri).partition(".tar#")[0]) for uri in uris
    )


def _of_input(truth: Truth, config: RunConfig) -> tuple[pa.StringArray, pa.Int32Array]:
    """The input's images that have the names of the truth's, and their classes."""
    import pyarrow as pa

    try:
        uris = _input_uris(config)
    except UsageError:  # the truth is what was asked about
        uris = pa.array([], pa.string())
    match = truth.match(uris)
    known = match.classes.is_valid()
    if not known.true_count:
        raise UsageError(
            f"{truth.source}: its images are not there, such as {mask_credentials(truth.uris[0].as_py())}, and none of "
            f"the {len(uris):,} images of input.path has the name of one"
        )
    return uris.filter(known), match.classes.filter(known)


def _input_uris(config: RunConfig) -> pa.StringArray:
    """Of the first million images of the input."""
    import pyarrow as pa

    found: list[pa.StringArray] = []
    for source in find_inputs(config.input.path):
        for batch in read_input(source, Counter(), None, table_reading(config)):
            found.append(batch.column("uri"))
            if sum(map(len, found)) >= INPUT_IMAGES:
                return pa.concat_arrays(found)
    return pa.concat_arrays(found) if found else pa.array([], pa.string())
