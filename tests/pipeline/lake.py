"""A place in a bucket, and what reading it as an input gives."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pipeline.errors import UsageError
from pipeline.inputs import Reading, find_inputs, read_input
from tests.object_store import BUCKET, ObjectStore
from transforms.storage import open_object_storage


@dataclass
class Lake:
    """A folder of its own in a bucket."""

    server: ObjectStore
    name: str

    @property
    def root(self) -> str:
        return f"{self.server.scheme}://{BUCKET}/{self.name}"

    def put(self, name: str, data: bytes | str = b"") -> str:
        """Make an object; its URI."""
        data = data.encode() if isinstance(data, str) else data
        open_object_storage(f"{self.server.scheme}://{BUCKET}").replace(f"{self.name}/{name}", data)
        self.server.well()
        return f"{self.root}/{name}"

    def put_all(self, *names: str) -> None:
        """Make empty objects."""
        for name in names:
            self.put(name)

    def gets(self) -> int:
        """How many requests fetched something of an object."""
        lists = ("list-type=", "/o?")
        return sum(1 for request in self.server.requests if request[:3] == "GET" and not any(map(request.count, lists)))

    @contextmanager
    def counted(self) -> Iterator[list[int]]:
        """The bytes of each of the server's answers while the body runs."""
        sent: list[int] = []
        self.server.sent = sent.append
        try:
            yield sent
        finally:
            self.server.well()


def read(*paths: str, reading: Reading | None = None) -> tuple[list[str], dict[str, int]]:
    """URIs and counts of what was left out."""
    left_out: Counter[str] = Counter()
    batches = [batch for source in find_inputs(paths) for batch in read_input(source, left_out, None, reading)]
    return [uri for batch in batches for uri in batch.column("uri").to_pylist()], dict(left_out)


def names(path: str, lake: Lake) -> list[str]:
    return [uri.removeprefix(f"{lake.root}/") for uri in read(path)[0]]


def refusal(path: str) -> str:
    with pytest.raises(UsageError) as error:
        read(path)
    return str(error.value).removeprefix("input.path[0]: ")


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
