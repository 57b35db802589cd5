"""What the parent tells its child to do: the shards to label, as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from transforms.records import Shard


def job_line(shards: Iterable[Shard]) -> str:
    """The job of labelling `shards`, on one line."""
    return json.dumps([[s.file, s.row_group, s.rows, s.generation, s.positions] for s in shards])


def parse_job(line: bytes) -> list[Shard]:
    """The shards of a `job_line`."""
    return [
        Shard(file, row_group, rows, generation, None if positions is None else tuple(positions))
        for file, row_group, rows, generation, positions in json.loads(line)
    ]
