"""Digests of files."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

BLOCK = 8 << 20


def hash_file(path: str) -> str:
    """sha256 of a file's contents, hexadecimal."""
    with open(path, "rb") as file:
        return hash_stream(file)


def hash_stream(source: BinaryIO, copy: BinaryIO | None = None) -> str:
    """sha256 of all that `source` still holds, hexadecimal; also written to `copy`."""
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        digest.update(block)
        if copy is not None:
            copy.write(block)
    return digest.hexdigest()
