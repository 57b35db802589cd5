"""What tests of handles look at."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import HublabelError
from pipeline.resolve import resolve_model


def assert_same(found: str | Path, folder: Path) -> None:
    assert files_of(Path(found)) == files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def key(handle: str) -> str:
    return hashlib.sha1(handle.encode()).hexdigest()


def refused(*arguments: Any) -> str:
    with pytest.raises(HublabelError) as caught:
        resolve_model(*arguments)
    return str(caught.value)
