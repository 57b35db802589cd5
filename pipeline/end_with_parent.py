"""Becomes another program, which is told to end (SIGTERM) when the process that started it is gone, however it went.

    python -m pipeline.end_with_parent PARENT_PID COMMAND [ARGUMENT ...]

Linux only; elsewhere the program is left behind by a parent that gets SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); survives the exec


def main(arguments: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(arguments[0]):  # it went before that
            sys.exit(128 + signal.SIGTERM)
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
