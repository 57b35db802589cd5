"""File name suffixes: what a folder's images are known by, what kinds of lists there are, what cannot be an input."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif"}
    | {".dcm", ".dicom", ".exr", ".hdr", ".rgbe"}
)

TABLE_KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tar": "tar",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
COMPRESSED_KINDS = frozenset({"text", "csv", "tsv", "jsonl"})  # the others need to be read here and there

UNSUPPORTED_SUFFIXES = frozenset(
    {".json", ".arrow", ".feather", ".xls", ".xlsx"}
    | {".tgz", ".zip", ".bz2", ".xz", ".tfrecord", ".npy", ".npz", ".h5"}
    | {".heic", ".heif", ".svg", ".pdf"}
)


def suffix_of(path: bytes) -> str:
    """The suffix with its dot, in lower case; empty for names without one. Bytes that are no ASCII become `?`."""
    _, dot, suffix = path.rpartition(b"/")[2].rpartition(b".")
    return (dot + suffix).lower().decode("ascii", "replace") if dot else ""


def kind_of(path: bytes) -> tuple[str, str | None]:
    """The kind of a file by its suffix, and its compression.

    The kind is `image`, a kind of table, `text`, or the suffix of what cannot be an input.
    """
    suffix = suffix_of(path)
    compression = COMPRESSIONS.get(suffix)
    inner = suffix_of(path[: -len(suffix)]) if compression else suffix
    if inner in IMAGE_SUFFIXES or inner in UNSUPPORTED_SUFFIXES:
        return ("image" if inner in IMAGE_SUFFIXES and not compression else inner + suffix * bool(compression)), None
    kind = TABLE_KINDS.get(inner, "text")
    if compression and kind not in COMPRESSED_KINDS:
        return inner + suffix, None
    return kind, compression
