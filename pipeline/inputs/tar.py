"""WebDataset tars: a row for each image in it; files of the same key beside it as columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.inputs.manifest import Manifest, make_batch
from pipeline.inputs.suffixes import IMAGE_SUFFIXES, suffix_of
from transforms.locations import open_file
from transforms.tar_members import DamagedTarError, Member, members, reading_at
from transforms.uris import uri_of_path

if TYPE_CHECKING:
    import pyarrow as pa

FIELDS = ("cls", "json")
MAX_FIELD_BYTES = 1 << 20
BATCH_ROWS = 8192


@dataclass
class _Rows:
    """Rows of a batch in the making."""

    uris: list[str] = field(default_factory=list)
    sources: list[str | None] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    fields: list[dict[str, str]] = field(default_factory=list)

    def add(self, uri: str, source: str | None, error: str | None, fields: dict[str, str]) -> None:
        self.uris.append(uri)
        self.sources.append(source)
        self.errors.append(error)
        self.fields.append(fields)  # of the sample: those that come after the image are in it later

    def batch(self) -> pa.RecordBatch:
        import pyarrow as pa

        columns = {name: [found.get(name) for found in self.fields] for name in FIELDS}
        arrays = {name: pa.array(values, pa.string()) for name, values in columns.items() if any(values)}
        return make_batch(pa.array(self.uris, pa.string()), arrays, self.errors, self.sources, texts=["cls"])


def read_tar(manifest: Manifest, left_out: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The images of an archive, in its order, in one pass over it.

    A sample is what stands side by side with one key: the path up to the first dot of the name. `KEY.cls` and
    `KEY.json` are the columns `cls` and `json` of its images, as text; they are read only if they are carried.

    Args:
        left_out: counts `hidden`, `unknown_suffix`, `not_a_file` (links, devices).

    Raises:
        UsageError: the file is no tar, cannot be read, or is damaged.
    """
    wanted = [name for name in FIELDS if name in manifest.reading.columns]
    rows = _Rows()
    key = None
    fields: dict[str, str] = {}
    try:
        with open_file(manifest.path) as file:
            read_at = reading_at(file)
            for member in members(file):
                name = member.name.rpartition("/")[2]
                stem, _, extension = name.partition(".")
                if (found := member.name[: len(member.name) - len(name)] + stem) != key:
                    key, fields = found, {}
                    if len(rows.uris) >= BATCH_ROWS:
                        yield rows.batch()
                        rows = _Rows()
                if reason := _left_out(member, name, extension):
                    left_out.update([reason] if reason != "folder" else [])
                elif extension in FIELDS:
                    if extension in wanted:
                        error = _read_field(read_at, member, fields, extension)
                        if error:
                            rows.add(*_bad(manifest, member.offset, error), {})
                else:
                    path = manifest.path + b"#" + os.fsencode(member.name)
                    rows.add(uri_of_path(path), member.source(manifest.path), None, fields)
    except DamagedTarError as error:
        if not error.offset:
            raise UsageError(f"{manifest.name}: {error}") from None
        rows.add(*_bad(manifest, error.offset, str(error)), {})
    except OSError as error:
        raise UsageError(f"{manifest.name} cannot be read: {error.strerror or error}") from error
    if rows.uris:
        yield rows.batch()


def _bad(manifest: Manifest, offset: int, reason: str) -> tuple[str, None, str]:
    uri, error = manifest.bad(offset, reason, "byte")
    return uri, None, error


def _left_out(member: Member, name: str, extension: str) -> str:
    """Why a member is no row and no field; empty when it is."""
    if not member.is_file:
        return "folder" if member.is_folder else "not_a_file"
    if name.startswith("."):
        return "hidden"
    if extension in FIELDS or suffix_of(os.fsencode(name)) in IMAGE_SUFFIXES:
        return ""
    return "unknown_suffix"


def _read_field(read_at: Callable[[int, int], bytes], member: Member, fields: dict[str, str], name: str) -> str:
    """Take up a field of a sample; returns what is wrong with it, if anything is."""
    if member.size > MAX_FIELD_BYTES:
        return f"{member.name!r} is larger than {MAX_FIELD_BYTES >> 20} MiB"
    try:
        fields[name] = read_at(member.size, member.offset).decode("utf-8").strip()
    except UnicodeDecodeError:
        return f"{member.name!r} is not UTF-8"
    return ""
