"""What becomes of one photo that is cut short, and of the others beside it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.commands import labels_below
from benchmarks.photos import photo_folder

PHOTOS = 64  # two batches


def photos_with_one_cut_short(folder: Path) -> tuple[Path, str]:
    """`PHOTOS` photos, and the name of the one among them of which only the first half is there."""
    photo_folder(folder, PHOTOS)
    path = sorted(folder.iterdir())[PHOTOS // 3]
    data = path.read_bytes()
    path.unlink()  # a link
    path.write_bytes(data[: len(data) // 2])
    return folder, path.name


def outcome(output: Path, bad: str, failed: bool) -> str:
    """What the labels below `output` say of the photo `bad`, the command having `failed` or not."""
    labels = labels_below(output)
    if failed:
        return f"the job fails, with {len(labels)} of {PHOTOS} rows written"
    if bad not in labels:
        return f"its row is missing, {len(labels)} of {PHOTOS} are there"
    if len(labels) < PHOTOS:
        return f"{PHOTOS - len(labels)} other rows are missing"
    return "a label like any other" if labels[bad] is not None else "a row that says why"
