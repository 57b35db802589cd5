"""Errors that end a command with one message and an exit code, never with a traceback."""

from __future__ import annotations


class HublabelError(Exception):
    """The command failed for the reason its message gives."""

    exit_code = 1


class UsageError(HublabelError):
    """The command line, the config or what they name is wrong; nothing was run."""

    exit_code = 2


class TooManyFailedError(HublabelError):
    """More images failed than `run.max_failed` allows; what was done is kept."""

    exit_code = 3
