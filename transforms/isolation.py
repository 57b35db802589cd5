"""Labelling image by image in a process of its own, for shards that have killed their workers.

The process (`python -m transforms.isolation`) reads, decodes and classifies one image at a time, and tells when it goes
from one to the next. When it dies, the image it had in its hands is the guilty one: a failed row of type `crashed` and
of the stage it was in; its neighbours are labelled by the next process. It ends when its standard input closes, so it
does not outlive its worker.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from transforms.errors import ImageError
from transforms.masked_output import mask_output
from transforms.model import ModelSpec
from transforms.preprocessing import Preprocessing
from transforms.programs import program, same_modules
from transforms.records import Columns, Row

if TYPE_CHECKING:
    import numpy as np

    from transforms.model import Classifier

START_TIMEOUT = 300.0  # seconds to import TensorFlow and load the model
STAGES = {"read": "read it", "decode": "decoded it", "model": "ran the model on it"}


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
            labelled = process.label(row, timeout)
            if process.is_lost:
                process.kill()
                process = None
            yield labelled
    finally:
        if process is not None:
            process.kill()


class _Process:
    """The isolated process, seen from its worker.

    Attributes:
        is_lost: it has died, or hangs.
    """

    def __init__(self, work: IsolatedWork) -> None:
        self.is_lost = False
        self._process = subprocess.Popen(
            program("transforms.isolation"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # else an answer could wait in a buffer that `select` does not see
            env=same_modules(),
        )
        _send(self._pipe(self._process.stdin), work)
        if self._receive(START_TIMEOUT) != "ready":
            self.kill()
            raise IsolationError(f"the isolated process cannot be started ({self._ending()})")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def label(self, row: Row, timeout: float) -> Row:
        """The row, labelled or failed."""
        stage, end = "read", time.monotonic() + timeout
        try:
            _send(self._pipe(self._process.stdin), row)
            while isinstance(found := self._receive(end - time.monotonic()), tuple):
                stage, row = found  # with what is known of it by then
        except BrokenPipeError:
            found = None
        if isinstance(found, Row):
            return found
        self.is_lost = True
        if self._process.poll() is None and found is _HANGS:
            row.fail(ImageError(stage, "timeout", f"gave up after {timeout:g} seconds"))
        else:
            row.fail(ImageError(stage, "crashed", f"the process that {STAGES[stage]} died ({self._ending()})"))
        return row

    def _receive(self, timeout: float) -> Any:
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], max(0.0, timeout))[0]:
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
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    try:
        while rest:
            rest = rest[pipe.write(rest) :]
        pipe.flush()
    except OSError as error:
        raise BrokenPipeError from error


def _take(pipe: IO[bytes]) -> Any:
    """The next value; both ends are the same program, so pickle is safe between them. Raises EOFError."""
    return pickle.loads(_exactly(pipe, _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0]))


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = pipe.read(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _serve() -> None:
    """The isolated process: an image at a time, until standard input closes."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    work: IsolatedWork = _take(requests)
    label = _labeller(work, lambda stage, row: _send(answers, (stage, row)))
    _send(answers, "ready")
    while True:
        try:
            row: Row = _take(requests)
        except EOFError:
            return
        label(row)
        _send(answers, row)


def _labeller(work: IsolatedWork, tell: Callable[[str, Row], None]) -> Callable[[Row], None]:
    """What labels a row; `tell` hears when decoding begins, and when the model does."""
    from transforms.ahead import batches
    from transforms.classify import classify_images, fill_rows
    from transforms.decode_images import open_picture
    from transforms.read import read_bytes

    model = _classifier(work.model)
    size = model.spec.batch_size
    decode = work.decode or open_picture

    def label(row: Row) -> None:
        def decode_told(data: bytes, found: Row, spec: Preprocessing) -> np.ndarray:
            tell("decode", row)
            return decode(data, found, spec)

        for batch in batches([row], work.spec, size, work.read or read_bytes, decode_told, 1):
            if batch.images is not None:
                tell("model", row)
                outputs, errors = classify_images(model, batch.images, 1)
                fill_rows(batch.rows, outputs, errors, work.activation, work.columns)

    return label


def _classifier(spec: ModelSpec) -> Classifier:
    """The model, for one image at a time; for batches where it takes no other number than theirs.

    Its graph as it is: comparing a rewritten one first would be at the first image's expense.
    """
    from transforms.model import ModelError, load_classifier

    spec = replace(spec, rewriting=False)
    try:
        return load_classifier(replace(spec, batch_size=1))
    except ModelError:
        return load_classifier(spec)


if __name__ == "__main__":
    mask_output()
    _serve()
    sys.stderr.flush()
    os._exit(0)
