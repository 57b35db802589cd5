"""What `hublabel verify` finds in an output made by hand."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import cli
from pipeline.verify import verify
from tests.outputs import MadeOutput, data_of


def problems_of(made: MadeOutput) -> list[str]:
    return [f"{check.what}: {problem}" for check in verify(made.storage, made.record) for problem in check.problems]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["verify", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def column(name: str, change: Callable[[list], list]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        values = pa.array(change(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, values)

    return changed


def read_made(uri: str, max_bytes: int) -> bytes:
    assert max_bytes == 64 * 1024 * 1024
    return data_of(int(uri.partition("host/")[2].partition(".")[0]))


def image_problems(made: MadeOutput, read: Callable[[str, int], bytes], images: int = 5, seed: int = 0) -> list[str]:
    check = verify(made.storage, made.record, images, seed, read)[-1]
    assert check.what == "images"
    return check.problems
