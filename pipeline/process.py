"""The child process of a run, seen from its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from transforms.programs import program

# Lines that TensorFlow's native code prints whatever the log level says; they mean nothing to our users.
NOISE = (
    "Unable to register cu", "Could not find TensorRT", "TF-TRT Warning", "Could not find cuda drivers",
    "cuda_executor", "cuda_dnn", "cuda_fft", "cuda_blas",
    "This TensorFlow binary is optimized", "To enable the following instructions",
    "oneDNN custom operations are on", "MLIR V1 optimization", "could not open file to read NUMA node",
    "All log messages before absl::InitializeLog", "pkg_resources is deprecated", "import pkg_resources",
    "declare_namespace", "from pkg_resources import", "direct_num_workers is not equal to 1",
)  # fmt: skip

TAIL_BYTES = 1 << 20  # of a log that are looked at for its last lines


class Child:
    """Runs the program `MODULE ARGUMENTS... EVENTS_FD` in a process group of its own.

    The child's standard input is a pipe that closes when this process ends, however it ends; its output goes to a
    log file; its events (JSON lines) come back through a pipe.

    Args:
        module: what to run.
        arguments: passed before the number of the events' file descriptor.
        log: path of the file its output is appended to.
        inherit: file descriptors the child keeps open, such as the lock's.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: str, inherit: Sequence[int] = ()) -> None:
        read_end, write_end = os.pipe()
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", "PYTHONWARNINGS": "ignore", **os.environ}
        with open(log, "ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                program(module, *arguments, str(write_end)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[write_end, *inherit],
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        os.close(write_end)
        self.log = log
        self._gone = False  # with all its group: another process may have its number
        self._events: deque[dict[str, Any]] = deque()
        self._reader = threading.Thread(target=self._read_events, args=(read_end,), daemon=True)
        self._reader.start()

    def give(self, job: str) -> None:
        """Tell the child what to do, in one line of text that it reads from its standard input."""
        # A long job does not fit the pipe, and the child takes seconds to start: do not wait for it here.
        self._giving = threading.Thread(target=self._give, args=(job.encode() + b"\n",), daemon=True)
        self._giving.start()

    def order(self, word: str) -> None:
        """Tell a child that has its job something more, such as `cancel`."""
        self._giving.join()
        self._give(word.encode() + b"\n")

    def _give(self, job: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the child has died, or is to stop
            view = memoryview(job)
            while view:
                view = view[self._process.stdin.write(view) :]

    def _read_events(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                try:
                    self._events.append(json.loads(line))
                except ValueError:
                    if line.endswith(b"\n"):
                        raise
                    # The last: the child was killed while it wrote it.

    def events(self) -> list[dict[str, Any]]:
        """Events that came since the last call."""
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or after so many seconds."""
        self._reader.join(seconds)  # its end of the pipe closes
        if not self._reader.is_alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=2)
        return code

    def stop(self, patience: float = 2.0) -> None:
        """End the child in order, so that it withdraws its marks of attempts; at once if it does not heed."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self.kill()
        self._gone = True
        self._process.wait()

    def kill(self) -> None:
        """End the whole process group at once: commits are atomic, so nothing needs tidying.

        A signal handler may call it at any moment: it does not wait, since the interrupted code may be doing so, and
        holds the lock for it.
        """
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines the child has printed, without native noise."""
        with open(self.log, "rb") as file:
            start = max(self._log_start, file.seek(0, os.SEEK_END) - TAIL_BYTES)
            file.seek(start)
            text = file.read().decode(errors="replace").splitlines()
        if start > self._log_start and len(text) > 1:
            del text[0]  # only its end was read
        return "\n".join([line for line in text if not any(noise in line for noise in NOISE)][-lines:])
