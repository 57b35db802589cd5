"""Labelling image by image in a process of its own, for shards that have killed their workers.

The process (`python -m transforms.isolation`) reads, decodes and classifies one image at a time. When it dies, the
image it had in its hands is the guilty one: a failed row of type `crashed`; its neighbours are labelled by the next
process. It ends when its standard input closes, so it does not outlive its worker.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from transforms.errors import ImageError
from transforms.masked_output import mask_output
from transforms.model import ModelSpec
from transforms.preprocessing import Preprocessing
from transforms.records import Columns, Row

START_TIMEOUT = 300.0  # seconds to import TensorFlow and load the model


class IsolationError(RuntimeError):
    """The isolated process dies before it is given an image: not an image's fault."""


@dataclass(frozen=True)
class IsolatedWork:
    """What the isolated process does with an image; the fields are those of the steps it stands in for.

    Attributes:
        read: bytes of a URI; None for `read.read_bytes`.
        decode: bytes to a resized picture; None for `decode_images.open_picture`.
    """

    spec: Preprocessing
    model: ModelSpec
    activation: str
    columns: Columns
    read: Any = None
    decode: Any = None


def label_isolated(rows: Iterable[Row], work: IsolatedWork, timeout: float) -> Iterator[Row]:
    """Label each of `rows` in the isolated process.

    Args:
        rows: what to label.
        work: how.
        timeout: seconds for one image, after which the process is killed and the image a failed row.

    Yields:
        Each row, labelled or failed, in order.

    Raises:
        IsolationError: the process cannot be started.
    """
    process: _Process | None = None
    try:
        for row in rows:
            if row.error_stage is not None:
                yield row
                continue
            process = process or _Process(work)
            labelled, reason = process.label(row, timeout)
            if labelled is None:
                process.kill()
                process = None
                row.fail(reason)
                labelled = row
            yield labelled
    finally:
        if process is not None:
            process.kill()


class _Process:
    def __init__(self, work: IsolatedWork) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "transforms.isolation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The modules a worker can import, its isolated process must find as well.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        _send(self._pipe(self._process.stdin), work)
        if self._receive(START_TIMEOUT) != "ready":
            self.kill()
            raise IsolationError(f"the isolated process cannot be started ({self._ending()})")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def label(self, row: Row, timeout: float) -> tuple[Row | None, ImageError]:
        """The labelled row; or None and why not."""
        try:
            _send(self._pipe(self._process.stdin), row)
            found = self._receive(timeout)
        except (BrokenPipeError, EOFError):
            found = None
        if isinstance(found, Row):
            return found, ImageError("", "", "")
        if self._process.poll() is None and found is _HANGS:
            return None, ImageError("decode", "timeout", f"gave up after {timeout:g} seconds")
        return None, ImageError("decode", "crashed", f"the process that decoded it died ({self._ending()})")

    def _receive(self, timeout: float) -> Any:
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], timeout)[0]:
            return _HANGS
        try:
            return _take(pipe)
        except EOFError:
            return None

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "no answer"
        try:
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()


_HANGS = object()
_LENGTH = struct.Struct("<Q")


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    try:
        pipe.write(_LENGTH.pack(len(data)) + data)
        pipe.flush()
    except OSError as error:
        raise BrokenPipeError from error


def _take(pipe: IO[bytes]) -> Any:
    """The next value; both ends are the same program, so pickle is safe between them."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    data = pipe.read(_LENGTH.unpack(head)[0])
    return pickle.loads(data)


def _serve() -> None:
    """The isolated process: an image at a time, until standard input closes."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    work: IsolatedWork = _take(requests)
    label = _labeller(work)
    _send(answers, "ready")
    while True:
        try:
            row: Row = _take(requests)
        except EOFError:
            return
        label(row)
        _send(answers, row)


def _labeller(work: IsolatedWork) -> Any:
    from transforms.ahead import batches
    from transforms.classify import classify_images, fill_rows
    from transforms.decode_images import open_picture
    from transforms.model import load_classifier
    from transforms.read import read_bytes

    model = load_classifier(replace(work.model, batch_size=1))

    def label(row: Row) -> None:
        for batch in batches([row], work.spec, 1, work.read or read_bytes, work.decode or open_picture, 1):
            if batch.images is not None:
                outputs, errors = classify_images(model, batch.images, 1)
                fill_rows(batch.rows, outputs, errors, work.activation, work.columns)

    return label


if __name__ == "__main__":
    mask_output()
    _serve()
    sys.stderr.flush()
    os._exit(0)
