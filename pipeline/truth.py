"""The truth about labelled images, from tables or folder names: which class each one is, by index, name or wnid."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.inputs import Reading, find_inputs, read_input
from pipeline.inputs.carried import is_text
from transforms.masking import mask_credentials
from transforms.plan_reader import ERROR

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("label_index", "label", "wnid", "cls")  # looked for in this order; `cls` is WebDataset's
INDEX, NAME, WNID = "index", "name", "wnid"
FOLDERS = "folders"  # in place of a file: the name of the folder an image is in
QUERY = r"^((?i:https?)://[^?#]*)[?#].*$"  # RE2, which DuckDB has as well: a URI's query follows group 1
TO_LAST_SLASH = r"^.*/"
_WNID = re.compile(r"n\d{8}")
_WHOLE = re.compile(r"(-?\d{1,9})(?:\.0+)?")  # pandas makes fractions of whole numbers beside a missing one


@dataclass(frozen=True)
class Classes:
    """Values that name classes, as indices.

    Attributes:
        indices: int32, as the output's `label_index`; null where a value is missing or names two classes. Not checked
            against the number of classes: a truth that counts from 1 has one too many.
        kind: `index`, `name` or `wnid`, what the values are.
        left_out: the null ones, counted by reason.
    """

    indices: pa.Int32Array
    kind: str
    left_out: dict[str, int]


@dataclass(frozen=True)
class Match:
    """What is true of given URIs.

    Attributes:
        classes: int32, one a URI; null where the truth does not name it.
        by: `uri`, or `file name` where no URI was the same.
        ambiguous: URIs left null because their file name stands on either side more than once.
    """

    classes: pa.Int32Array
    by: str
    ambiguous: int = 0


@dataclass(frozen=True)
class Entries:
    """Images and their classes, as they stand somewhere.

    Attributes:
        source, column, kind, left_out: as in `Truth`.
        uris: absolute local paths, or URIs with their scheme; an image may stand there several times.
        classes: int32, one a URI, none null.
    """

    source: str
    column: str | None
    kind: str
    uris: pa.ChunkedArray
    classes: pa.Int32Array
    left_out: dict[str, int]

    def two_classes(self, uri: str, first: int, second: int) -> UsageError:
        """What to raise when an image has two classes."""
        return UsageError(f"{self.source}: {mask_credentials(uri)} has two classes, {first} and {second}")


@dataclass(frozen=True)
class Truth:
    """Which class each image is.

    Attributes:
        source: where that is from, for messages.
        column: of the table; None for folder names.
        kind: `index`, `name` or `wnid`, what stood there.
        uris: absolute local paths, or URIs with their scheme; none twice.
        classes: int32, one a URI, none null; as the output's `label_index`.
        left_out: rows that tell no class, counted by reason.
    """

    source: str
    column: str | None
    kind: str
    uris: pa.StringArray
    classes: pa.Int32Array
    left_out: dict[str, int] = field(default_factory=dict)

    def match(self, uris: pa.StringArray) -> Match:
        """The classes of `uris`: by the same URI; where there is none for any, by file names that are unique."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(uris, value_set=self.uris)
        if found.null_count < len(uris):
            return Match(self.classes.take(found), "uri")
        theirs, ours = file_names(uris), file_names(self.uris)
        nothing = pa.scalar(None, pa.string())
        known = pc.if_else(_once(ours), ours, nothing)  # null is no name: see skip_nulls
        asked = pc.if_else(_once(theirs), theirs, nothing)
        found = pc.index_in(asked, value_set=known, skip_nulls=True)
        named = pc.sum(pc.is_in(theirs, value_set=ours)).as_py() or 0
        return Match(self.classes.take(found), "file name", named - (len(found) - found.null_count))


def read_truth(
    path: str,
    labels: Sequence[str] | None = None,
    column: str | None = None,
    *,
    uri_column: str = "uri",
    on_bad_line: str = "fail",
    key: str = "--truth",
) -> Truth:
    """What `read_entries` reads, each image once. All of it is held in memory.

    Raises:
        UsageError: as `read_entries`; an image has two classes.
    """
    return _once_each(read_entries(path, labels, column, uri_column=uri_column, on_bad_line=on_bad_line, key=key))


def read_entries(
    path: str,
    labels: Sequence[str] | None = None,
    column: str | None = None,
    *,
    uri_column: str = "uri",
    on_bad_line: str = "fail",
    key: str = "--truth",
) -> Entries:
    """Read a table of URIs and classes; or a folder, a glob or a list of images in folders named for their classes.

    Relative URIs are joined to the folder of the file they stand in. URIs and classes are held in memory.

    Args:
        path: CSV, TSV, JSON lines, Parquet, a WebDataset tar, a folder of images, ...: what `input.path` takes.
        labels: names of the classes, in order.
        column: holds the classes; None for the first of `COLUMNS` that is there, and folder names where none is.
        uri_column, on_bad_line: as in the config's `input`.
        key: what messages call the argument.

    Raises:
        UsageError: it cannot be read, has no such column, or names no class.
    """
    import pyarrow as pa

    reading = Reading(uri_column, (column,) if column else COLUMNS, on_bad_line)
    left_out: Counter[str] = Counter()
    uris: list[Any] = []
    values: dict[str, list[Any]] = {name: [] for name in reading.columns}
    [source] = find_inputs(path, key)
    for batch in read_input(source, Counter(), None, reading):
        if ERROR in batch.schema.names:
            good = batch.column(ERROR).is_null()
            left_out["bad line"] += batch.num_rows - good.true_count
            batch = batch.filter(good)
        uris.append(batch.column("uri"))
        for name in reading.columns:
            values[name].append(_plain(batch, name))
    if not sum(map(len, uris)):
        raise UsageError(f"{source.name} names no image")
    there = [name for name in reading.columns if any(array is not None for array in values[name])]
    images = pa.chunked_array(uris, pa.string())
    if there:
        arrays = [pa.nulls(len(u)) if v is None else v for u, v in zip(uris, values[there[0]], strict=True)]
        return _entries(source.name, there[0], images, _concatenated(arrays), labels, left_out)
    if column:
        raise UsageError(f"{source.name}: no column {column!r} (--column)")
    try:
        return _folder_entries(images, labels, source.name)
    except UsageError as error:
        if source.kind in ("folder", "image"):
            raise
        names = ", ".join(COLUMNS)
        raise UsageError(f"{error} (and there is no column {names}; --column names another)") from None


def folder_truth(uris: pa.StringArray, labels: Sequence[str] | None, source: str) -> Truth:
    """The truth of images in folders named for their classes, as ImageNet has them (`n01440764/0001.jpg`).

    Raises:
        UsageError: a folder's name is no class.
    """
    import pyarrow as pa

    return _once_each(_folder_entries(pa.chunked_array([uris]), labels, source))


def _folder_entries(uris: pa.ChunkedArray, labels: Sequence[str] | None, source: str) -> Entries:
    import pyarrow.compute as pc

    folders = pc.struct_field(pc.extract_regex(uris, pattern=r"(?P<folder>[^/#]*)[/#][^/#]*$"), "folder")
    return _entries(source, None, uris, folders, labels, Counter())


def class_indices(
    values: pa.Array | pa.ChunkedArray, column: str | None, labels: Sequence[str] | None, source: str
) -> Classes:
    """What classes the values of a column name.

    `label_index` holds indices and `wnid` wnids; whole numbers of any other column are indices, and texts are names
    where all of them are labels, else indices, else wnids.

    Args:
        values: whole numbers, texts, or texts of whole numbers.
        column: their name; None for folder names.
        labels: names of the classes, in order.
        source: where the values are from, for messages.

    Raises:
        UsageError: a value is none of these, or no class.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    where = f"{source}: " + (f"column {column!r}" if column else "the images' folders")
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or _is_text(values.type)):
        raise UsageError(f"{where}: {values.type} names no class; it must be an index, a label or a wnid")
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    distinct = texts.unique().to_pylist()
    given = [text for text in distinct if text]
    kind, known = _dictionary(given, column, labels, _is_text(values.type), where)
    found = [known.get(text) if text else None for text in distinct]
    indices = pa.array(found, pa.int32()).take(pc.index_in(texts, value_set=pa.array(distinct, pa.string())))
    left_out: Counter[str] = Counter()
    if indices.null_count:
        for text, count in Counter(texts.filter(indices.is_null()).to_pylist()).items():
            left_out[f"{text!r} names two classes" if text else "no class given"] += count
    return Classes(indices, kind, dict(left_out))


def wnids() -> list[str]:
    """The 1,000 WordNet ids of ILSVRC 2012 in the order of their class indices: the sorted one.

    The list is timm's imagenet_synsets.txt (Apache-2.0).
    """
    return Path(__file__).with_name("ilsvrc2012_wnids.txt").read_text(encoding="ascii").split()


def file_names(uris: pa.StringArray) -> pa.StringArray:
    """What follows the last slash of each URI, without a query."""
    import pyarrow.compute as pc

    plain = pc.replace_substring_regex(uris, pattern=QUERY, replacement=r"\1")
    return pc.replace_substring_regex(plain, pattern=TO_LAST_SLASH, replacement="")


def _once(names: pa.StringArray) -> pa.BooleanArray:
    """Whether a name stands there no second time."""
    import pyarrow.compute as pc

    counts = pc.value_counts(names)
    single = counts.field("values").filter(pc.equal(counts.field("counts"), 1))
    return pc.is_in(names, value_set=single)


def _plain(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    import pyarrow as pa

    position = batch.schema.get_field_index(name)
    if position < 0:
        return None
    array = batch.column(position)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array.cast(pa.string()) if is_text(batch.schema.field(position)) else array


def _concatenated(arrays: list[pa.Array]) -> pa.Array:
    """One array of one type: of whole numbers where all are, else of texts."""
    import pyarrow as pa

    kinds = {array.type for array in arrays if not pa.types.is_null(array.type)}
    if len(kinds) == 1:
        one = kinds.pop()
    else:
        one = pa.int64() if kinds and all(map(pa.types.is_integer, kinds)) else pa.string()
    return pa.concat_arrays([array.cast(one) for array in arrays])


def _is_text(type: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def _entries(
    source: str, column: str | None, uris: pa.ChunkedArray, values: Any, labels: Any, left_out: Counter[str]
) -> Entries:
    classes = class_indices(values, column, labels, source)
    left_out.update(classes.left_out)
    told = classes.indices.is_valid()
    if told.true_count < len(told):
        uris = uris.filter(told)
    if not len(uris):
        raise UsageError(f"{source} tells no class (rows left out: {dict(left_out)})")
    return Entries(source, column, classes.kind, uris, classes.indices.drop_null(), dict(left_out))


def _once_each(entries: Entries) -> Truth:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.table({"uri": entries.uris, "class": entries.classes})
    once = rows.group_by("uri", use_threads=False).aggregate([("class", "min"), ("class", "max")])
    differ = once.filter(pc.not_equal(once["class_min"], once["class_max"]))
    if differ.num_rows:
        raise entries.two_classes(*(differ[name][0].as_py() for name in ("uri", "class_min", "class_max")))
    return Truth(
        entries.source, entries.column, entries.kind, once["uri"].combine_chunks(), once["class_min"].combine_chunks(),
        entries.left_out,
    )  # fmt: skip


def _dictionary(
    given: list[str], column: str | None, labels: Sequence[str] | None, are_texts: bool, where: str
) -> tuple[str, dict[str, int | None]]:
    """What the values are, and the class of each; None for those that name two."""
    names = _names(labels or ())
    by_name: dict[str, int | None] = {text: names[_folded(text)] for text in given if _folded(text) in names}
    if are_texts and column not in ("label_index", "wnid") and len(by_name) == len(given):
        return NAME, by_name
    numbers = {text: int(match[1]) for text in given if (match := _WHOLE.fullmatch(text))}
    if column != "wnid" and len(numbers) == len(given):
        return INDEX, dict(numbers)
    if column == "label_index":
        raise UsageError(f"{where}: {_first(given, numbers)!r} is no whole number")
    known = dict(names) if labels and _WNID.fullmatch(labels[0]) else {}
    known = known or {wnid: index for index, wnid in enumerate(wnids())}
    by_wnid = {text: known[text] for text in given if text in known}
    if len(by_wnid) == len(given):
        if labels is not None and len(labels) != len(known):
            raise UsageError(
                f"{where}: wnids are those of the {len(known):,} classes of ILSVRC 2012, and the model has "
                f"{len(labels):,} labels; give the truth by label_index"
            )
        return WNID, by_wnid
    raise UsageError(f"{where}: {_what_is_wrong(given, column, labels, by_name, by_wnid)}")


def _what_is_wrong(given: list[str], column: str | None, labels: Any, by_name: Any, by_wnid: Any) -> str:
    if column == "wnid" or (by_wnid and len(by_wnid) >= len(by_name)):
        return f"{_first(given, by_wnid)!r} is none of the 1,000 wnids of ILSVRC 2012, such as n01440764"
    stranger = _first(given, by_name)
    if labels is None:
        return f"{stranger!r} is no index and no wnid, and names need model.labels"
    near = difflib.get_close_matches(stranger, labels, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{stranger!r} is none of the {len(labels):,} labels of model.labels{hint}"


def _first(given: list[str], known: Any) -> str:
    return next(text for text in given if text not in known)


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _names(labels: Sequence[str]) -> dict[str, int | None]:
    """Class by its label, or by one of the label's synonyms between commas; None for a name of two classes."""
    whole: dict[str, int | None] = {}
    parts: dict[str, int | None] = {}
    for index, label in enumerate(labels):
        names = {_folded(part) for part in label.split(",")}
        for found, keys in ((whole, {_folded(label)}), (parts, names)):
            for name in keys:
                found[name] = None if name in found else index
    return {**parts, **whole}
