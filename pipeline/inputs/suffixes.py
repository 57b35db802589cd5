"""File name suffixes: what a folder's images are known by, and what cannot be an input yet."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif"}
    | {".dcm", ".dicom", ".exr", ".hdr", ".rgbe"}
)

UNSUPPORTED_SUFFIXES = frozenset(
    {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".arrow", ".feather", ".xls", ".xlsx"}
    | {".tar", ".tgz", ".zip", ".gz", ".bz2", ".xz", ".zst", ".tfrecord", ".npy", ".npz", ".h5"}
    | {".heic", ".heif", ".svg", ".pdf"}
)


def suffix_of(path: bytes) -> str:
    """The suffix with its dot, in lower case; empty for names without one. Bytes that are no ASCII become `?`."""
    _, dot, suffix = path.rpartition(b"/")[2].rpartition(b".")
    return (dot + suffix).lower().decode("ascii", "replace") if dot else ""
