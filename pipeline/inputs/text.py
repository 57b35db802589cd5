"""Text files of URIs: every line that is not blank is a row, whatever it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.inputs.manifest import Manifest, checked_start
from transforms.manifest_lines import LongLineError, blocks_of, named_lines, uris_of, whole_lines

if TYPE_CHECKING:
    import pyarrow as pa

HOLDS = "one URI a line"


def read_lines(manifest: Manifest, left_out: Counter[str]) -> Iterator[pa.StringArray]:
    """The URIs of a text file, in order, an array a block of about 1 MiB.

    A UTF-8 byte order mark is dropped; blank lines are counted as `blank_line`; see `named_lines`. Relative paths are
    joined to the file's folder (to the working directory when the file is a pipe).

    Args:
        left_out: counts of lines that are no rows.

    Raises:
        UsageError: the file cannot be read, holds NUL bytes at its start or is UTF-16, or a line exceeds 1 MiB.
    """
    with manifest.open() as (file, folder):
        blocks = blocks_of(file)
        start = checked_start(next(blocks, b""), manifest.name, HOLDS)
        try:
            for text in whole_lines(chain([start], blocks)):
                lines, blanks = named_lines(text)
                if blanks:
                    left_out["blank_line"] += blanks
                yield uris_of(lines, folder)
        except LongLineError as error:
            raise UsageError(f"{manifest.name}: {error}") from None


def check_text(manifest: Manifest) -> None:
    """See that a file can be read, and begins like a text. Raises UsageError."""
    with manifest.open() as (file, _):
        checked_start(next(blocks_of(file), b""), manifest.name, HOLDS)
