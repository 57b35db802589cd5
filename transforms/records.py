"""The elements that flow from step to step, and the Parquet schema of what they end up as.

Elements are plain picklable data (str, numbers, ndarray; errors as strings): Beam pickles samples of whatever
it cannot size, even between fused steps, so `register_coders` gives the batches a coder whose estimate is free.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transforms.masking import mask_credentials

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from transforms.errors import ImageError

OK = "ok"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work, of commit and of resume: one row group of a plan file.

    Attributes:
        file: number of the plan file, as in `plan/plan-00003.parquet`.
        row_group: row group in that file; the part is `predictions/00003/part-<row_group>.parquet`.
        rows: images to label: all of the row group's, or as many as `positions`.
        generation: 0 for a first labelling; n + 1 when failed rows of generation n are taken up again.
        positions: which of the row group's images to label again; None for all.
    """

    file: int
    row_group: int
    rows: int
    generation: int = 0
    positions: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"shard {self.file:05d}/{self.row_group:05d}"


@dataclass(slots=True)
class Row:
    """One image on its way to its output row; fields are the columns of the same names.

    Attributes:
        row: position in the plan, the key.
        position: position in its shard, 0-based.
        uri: as in the plan.
        width, height: pixels, as stored in the file (before any EXIF rotation); None when not known.
        format: `jpeg`, `png`, ...; None when not known.
        bytes: size of the file; None when it could not be read.
        sha256: hexadecimal digest of the file's bytes; None when it could not be read.
        error_stage, error_type, error_message: all None for an image with a label.
        classes: int [k], classes of the model by falling score; None without scores.
        scores: float32 [k], their scores.
        logits, embedding: float32 [n], when asked for.
        source: what is read, where that is not `uri`.
    """

    row: int
    position: int
    uri: str
    width: int | None = None
    height: int | None = None
    format: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    error_stage: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    classes: np.ndarray | None = None
    scores: np.ndarray | None = None
    logits: np.ndarray | None = None
    embedding: np.ndarray | None = None
    source: str | None = None

    @property
    def status(self) -> str:
        return OK if self.error_stage is None else FAILED

    def fail(self, error: ImageError) -> None:
        """Make this a failed row."""
        self.error_stage, self.error_type = error.stage, error.type
        self.error_message = bounded(error.message)


MESSAGE_LIMIT = 300  # characters of an error message in a row


def bounded(message: str) -> str:
    """`message` on one line, with credentials masked, and at most `MESSAGE_LIMIT` characters long."""
    message = mask_credentials(" ".join(message.split()))
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


@dataclass(slots=True)
class ImageBatch:
    """Images of one shard, ready for the model, and the rows of those that did not make it.

    Attributes:
        shard: whose images these are; no batch straddles shards.
        images: [B, height, width, 3] in the model's dtype, B always the same; slots from `len(rows)` on are
            padding. None when the batch carries finished rows only.
        rows: one for each slot used.
        finished: rows the model need not see: images that failed before it, or were labelled in isolation.
        seconds: time spent by stage, in thread-seconds, since the last batch.
    """

    shard: Shard
    images: np.ndarray | None
    rows: list[Row]
    finished: list[Row]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class LabelledBatch:
    """Rows of one shard that are finished, with or without a label, in no particular order."""

    shard: Shard
    rows: list[Row]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which optional columns a run's output has.

    Attributes:
        top_k: entries of the `top_k` column; 0 leaves out label, label_index, score and top_k.
        logits: length of the `logits` column, or 0 for none.
        embedding: length of the `embedding` column, or 0 for none.
        carried: columns of the input, with their Arrow types as strings are not enough: a serialised Arrow schema.
    """

    top_k: int = 5
    logits: int = 0
    embedding: int = 0
    carried: bytes = b""


def carried_schema(columns: Columns) -> pa.Schema:
    """The Arrow schema of the columns carried from the input."""
    import pyarrow as pa

    return pa.ipc.read_schema(pa.BufferReader(columns.carried)) if columns.carried else pa.schema([])


def prediction_schema(columns: Columns) -> pa.Schema:
    """The Parquet schema of the predictions.

    `row` int64, `uri` string, the carried columns, `status` `ok` | `failed`, `label` string, `label_index` int32,
    `score` float32 (the best class), `top_k` list<struct<label_index, label, score>> by falling score, `width` and
    `height` int32 (pixels as stored), `format` string, `bytes` int64, `sha256` string (hexadecimal), `error_stage`,
    `error_type`, `error_message` string, then on request `logits` and `embedding` float32 of fixed length
    (all null in failed rows).
    """
    import pyarrow as pa

    fields = [pa.field("row", pa.int64(), nullable=False), pa.field("uri", pa.string(), nullable=False)]
    fields += list(carried_schema(columns))
    fields.append(pa.field("status", pa.string(), nullable=False))
    if columns.top_k:
        fields += [
            pa.field("label", pa.string()),
            pa.field("label_index", pa.int32()),
            pa.field("score", pa.float32()),
            pa.field("top_k", pa.list_(top_k_type())),
        ]
    fields += [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("error_stage", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("error_message", pa.string()),
    ]
    for name, length in (("logits", columns.logits), ("embedding", columns.embedding)):
        if length:
            fields.append(pa.field(name, pa.list_(pa.float32(), length)))
    return pa.schema(fields)


def top_k_type() -> pa.StructType:
    """Type of one entry of the `top_k` column."""
    import pyarrow as pa

    return pa.struct([("label_index", pa.int32()), ("label", pa.string()), ("score", pa.float32())])


def rows_to_table(
    rows: Sequence[Row], columns: Columns, labels: Sequence[str] | None, label_offset: int, carried: pa.Table | None
) -> pa.Table:
    """The predictions of `rows` (ordered by position) as a table of `prediction_schema(columns)`.

    Args:
        rows: every row of a shard, ordered by `position`.
        columns: the optional columns.
        labels: label of each class from `label_offset` on; None leaves the labels null.
        label_offset: classes before the first label (1 for modules whose class 0 is background); such a class has
            the label `background` and a negative index.
        carried: the shard's carried columns, in the same order, or None.
    """
    import pyarrow as pa

    schema = prediction_schema(columns)
    arrays: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in _PLAIN}
    if columns.top_k:
        arrays.update(_label_arrays(rows, labels, label_offset))
    for name, length in (("logits", columns.logits), ("embedding", columns.embedding)):
        if length:
            arrays[name] = _vectors([getattr(row, name) for row in rows], length)
    if carried is not None:
        arrays.update({name: carried.column(name) for name in carried_schema(columns).names})
    return pa.table([_as_array(arrays[f.name], f.type) for f in schema], schema=schema)


_PLAIN = (
    "row", "uri", "status", "width", "height", "format", "bytes", "sha256",
    "error_stage", "error_type", "error_message",
)  # fmt: skip


def _as_array(values: Any, type: pa.DataType) -> Any:
    import pyarrow as pa

    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type)


def _label_arrays(rows: Sequence[Row], labels: Sequence[str] | None, label_offset: int) -> Mapping[str, Any]:
    """Columns label, label_index, score and top_k."""
    import numpy as np
    import pyarrow as pa

    have = [row for row in rows if row.classes is not None and row.scores is not None]
    counts = [0 if row.classes is None else len(row.classes) for row in rows]
    missing = np.array([row.classes is None for row in rows], bool)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    classes = np.concatenate([row.classes for row in have] or [np.zeros(0, np.int64)])
    scores = np.concatenate([row.scores for row in have] or [np.zeros(0)]).astype(np.float32)
    indices = (classes - label_offset).astype(np.int32)
    names = pa.array([_label(i, labels) for i in indices.tolist()], pa.string())
    entries = pa.StructArray.from_arrays([pa.array(indices), names, pa.array(scores)], fields=list(top_k_type()))
    first = pa.array(np.where(missing, 0, offsets[:-1]), mask=missing)
    return {
        "label": names.take(first),
        "label_index": pa.array(indices).take(first),
        "score": pa.array(scores).take(first),
        "top_k": pa.ListArray.from_arrays(pa.array(offsets), entries, mask=pa.array(missing)),
    }


def _label(index: int, labels: Sequence[str] | None) -> str | None:
    if labels is None:
        return None
    return labels[index] if index >= 0 else "background"


def _vectors(vectors: Sequence[np.ndarray | None], length: int) -> pa.FixedSizeListArray:
    """Vectors of one length; of nulls where there is none: pyarrow cannot read back a list that is null itself."""
    import numpy as np
    import pyarrow as pa

    flat = np.zeros((len(vectors), length), np.float32)
    missing = np.zeros((len(vectors), length), bool)
    for i, vector in enumerate(vectors):
        if vector is None:
            missing[i] = True
        else:
            flat[i] = vector
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel(), mask=missing.ravel()), length)


def register_coders() -> None:
    """Give batches a coder whose size estimate costs nothing (Beam would pickle samples of the pixels)."""
    from apache_beam import coders
    from apache_beam.coders import coder_impl

    class BatchCoder(coders.PickleCoder):
        """Pickles, and tells a size without pickling."""

        def _create_impl(self) -> coder_impl.CoderImpl:
            # Beam asks this object, and only it; an `estimate_size` of the coder itself is never called.
            return coder_impl.CallbackCoderImpl(pickle.dumps, pickle.loads, _size_in_memory)

    coders.registry.register_coder(ImageBatch, BatchCoder)
    coders.registry.register_coder(LabelledBatch, BatchCoder)


def _size_in_memory(batch: object) -> int:
    images = getattr(batch, "images", None)
    return 1024 if images is None else int(images.nbytes)
