"""What must hold of an output after a disturbed run; each check returns what is wrong, in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.witness import Opening

TOLERANCE = 1e-4  # of scores, logits and embeddings: a batch holds other neighbours after a restart
IN_FLIGHT = 2 * (
    1 + 8
)  # shards: the local runner has two bundles, each works on one and on a slow disk keeps eight waiting


@dataclass(frozen=True)
class Part:
    """A committed part: its images, when it was finished (Unix time) and what tells whether it was touched since."""

    uris: tuple[str, ...]
    finished: float
    identity: tuple[int, int, int]


def part_identities(output: Path) -> dict[str, tuple[int, int, int]]:
    """(inode, modification time in ns, size) of each committed part, by name."""
    found = {}
    for path in output.glob("predictions/*/part-*.parquet"):
        status = path.stat()
        found[path.relative_to(output).as_posix()] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def changed_parts(before: Mapping[str, tuple[int, int, int]], output: Path) -> list[str]:
    """Parts of `before` that are not what they were."""
    now = part_identities(output)
    gone = [f"{name}: committed, and gone later" for name in before if name not in now]
    return gone + [f"{name}: changed after its commit" for name in before if now.get(name) not in (before[name], None)]


def file_names(output: Path) -> list[str]:
    """Every file and folder of an output, sorted, as relative names."""
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*"))


def compare_trees(output: Path, reference: Path) -> list[str]:
    """Files that a disturbed run has left behind, or lacks, measured by an undisturbed one."""
    ours, theirs = set(file_names(output)), set(file_names(reference))
    return [f"{name}: left behind" for name in sorted(ours - theirs)] + [
        f"{name}: missing" for name in sorted(theirs - ours)
    ]


def read_rows(output: Path) -> list[dict[str, Any]]:
    """All rows of an output, by row number."""
    parts = sorted(output.glob("predictions/*/part-*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(part).read() for part in parts]).to_pylist() if parts else []
    return sorted(rows, key=lambda row: row["row"])


def compare_rows(
    rows: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]], uris: Sequence[str]
) -> list[str]:
    """Rows that are missing, double, of another image or with other values than the reference has."""
    if [row["row"] for row in rows] != list(range(len(uris))):
        return [f"{len(rows)} rows for {len(uris)} inputs, or not each of them once"]
    problems = []
    for row, expected, uri in zip(rows, reference, uris, strict=True):
        if row["uri"] != uri:
            problems.append(f"row {row['row']}: {row['uri']}, and the input is {uri}")
        different = [name for name in expected if not same(row.get(name), expected[name])]
        problems += [f"row {row['row']}: {name} is {row.get(name)!r}, not {expected[name]!r}" for name in different]
        problems += [f"row {row['row']}: column {name} is new" for name in row.keys() - expected.keys()]
    return problems


def same(value: Any, expected: Any) -> bool:
    """Equality, floats within the tolerance, into lists and structs."""
    if isinstance(expected, float) and isinstance(value, float):
        return math.isclose(value, expected, rel_tol=0, abs_tol=TOLERANCE)
    if isinstance(expected, list) and isinstance(value, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    return value == expected


def read_parts(output: Path) -> list[Part]:
    """The committed parts, their images and when they were finished."""
    identities = part_identities(output)
    parts = []
    for name, identity in identities.items():
        file = pq.ParquetFile(output / name)
        footer = json.loads(file.metadata.metadata[b"hublabel"])
        uris = file.read(columns=["uri"]).column("uri").to_pylist()
        parts.append(Part(tuple(uris), footer["finished"], identity))
    return parts


def read_again(openings: Iterable[Opening], parts: Iterable[Part]) -> list[str]:
    """Images that were opened after all shards they belong to had been committed: work done twice."""
    last: dict[str, float] = {}
    for part in parts:
        for uri in part.uris:
            last[uri] = max(last.get(uri, 0.0), part.finished)
    late = [opening for opening in openings if opening.time > last.get(opening.path, 0.0)]
    return [f"{one.path}: opened {one.time - last.get(one.path, 0.0):.3f} s after its commit" for one in late]


def recomputed(openings: Sequence[Opening], rows: int, kills: int, shard_size: int) -> tuple[int, list[str]]:
    """Images that were read more than once for one row, and whether they are more than the shards in flight."""
    again, most = len(openings) - rows, kills * IN_FLIGHT * shard_size
    problem = f"{again} images were computed again, and no more than {most} were in flight"
    return again, [problem] if again > most else []
