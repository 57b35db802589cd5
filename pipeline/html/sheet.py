"""Cards of a contact sheet: a picture and what the model says of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import RunConfig
from pipeline.html.thumbnails import Thumbnail, read_thumbnails
from pipeline.reading import reader
from transforms.masking import strip_uri


@dataclass(frozen=True)
class Card:
    """One picture.

    Attributes:
        uri, name: the whole of it, and its last part.
        label, score: the best class; the score is None where there is none.
        second, second_score: the next best class; empty without one.
        truth: what it should be, where that is another; empty otherwise.
    """

    uri: str
    name: str
    label: str
    score: float | None
    thumbnail: Thumbnail
    second: str = ""
    second_score: float = 0.0
    truth: str = ""


def thumbnails(rows: Mapping[int, Mapping[str, Any]], wanted: Iterable[int], config: RunConfig) -> dict[int, Thumbnail]:
    """Thumbnails of the rows that are wanted, as `config.report` has them, by row."""
    settings = config.report
    uris = {row: rows[row]["uri"] for row in wanted if row in rows}
    if not settings.thumbnails:
        return dict.fromkeys(uris, Thumbnail(why="thumbnails are off (report.thumbnails: 0)"))
    return read_thumbnails(
        uris, reader(config), seconds=settings.thumbnail_seconds, max_bytes=config.image.max_bytes,
        remote=settings.remote_thumbnails,
    )  # fmt: skip


def make_cards(
    rows: Mapping[int, Mapping[str, Any]], wanted: Iterable[int], pictures: Mapping[int, Thumbnail],
    truths: Mapping[int, str] | None = None,
) -> list[Card]:  # fmt: skip
    """Cards of the rows that are wanted, in that order; rows that are not there are left out.

    Args:
        rows: by number, with `uri`, `label`, `label_index`, `score`, `top_k`.
        pictures: as `thumbnails` gives them.
        truths: what rows should be.
    """
    return [_card(rows[row], pictures[row], (truths or {}).get(row, "")) for row in wanted if row in rows]


def _card(row: Mapping[str, Any], thumbnail: Thumbnail, truth: str) -> Card:
    name = os.path.basename(strip_uri(row["uri"])) or row["uri"]
    [second] = (row.get("top_k") or [])[1:2] or [None]
    return Card(
        row["uri"],
        name,
        _label(row),
        row.get("score"),
        thumbnail,
        second=_label(second) if second else "",
        second_score=second["score"] if second else 0.0,
        truth=truth,
    )


def _label(named: Mapping[str, Any]) -> str:
    label = named.get("label")
    return str(named.get("label_index", "")) if label is None else label
