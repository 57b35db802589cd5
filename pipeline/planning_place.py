"""Who plans a run: its launcher, or workers of its runner; and why it cannot be they."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.inputs import Input, Reading, find_inputs, list_files, manifest_of
from pipeline.inputs.manifest import Manifest
from pipeline.inputs.stores import file_size
from pipeline.plan import nothing_matched
from pipeline.reachable import SHARED
from pipeline.runner_table import DATAFLOW, is_remote, workers_are_here
from transforms.locations import is_store, size_of, version_of
from transforms.read import uri_scheme

# From so many bytes of lists on. A launcher plans two million URIs of 45 bytes a second (docs/scale.md), so these in
# three minutes; for less, a job of its own is hardly worth its start.
AUTO_BYTES = 16 << 30


@dataclass(frozen=True)
class TextList:
    """A text file of URIs that workers are to plan.

    Attributes:
        source: the input that it belongs to.
        version: see `locations.version_of`.
        bytes: its size; of this version, or workers will find another.
    """

    source: Input
    manifest: Manifest
    version: str
    bytes: int


def lists_for_workers(config: RunConfig, can_submit: bool, say: Callable[[str], None]) -> list[TextList] | None:
    """The lists of a run that workers of its runner are to plan; None where the launcher plans.

    Args:
        can_submit: whether a job can be submitted besides the one that labels.
        say: told why it is not the workers, where they might be expected.

    Raises:
        UsageError: the config wants workers that cannot plan this input; an input does not exist.
    """
    runner, planning = config.runner, config.run.planning
    here = workers_are_here(runner.name, runner.options)
    if planning == "launcher" or not is_remote(runner.name) or (planning == "auto" and here):
        return None
    inputs = find_inputs(config.input.path)
    if planning == "auto" and sum(_sizes(inputs)) < AUTO_BYTES:
        return None
    reason = _why_not(config, inputs, can_submit) or next(_unreachable(config, inputs), "")
    lists = [] if reason else list(_text_lists(inputs))
    reason = reason or next(_not_to_be_cut(lists), "")
    if not reason:
        return lists
    if planning == "runner":
        raise UsageError(f"run.planning: runner is not possible here: {reason}; it must be auto or launcher")
    say(f"planned by the launcher and not by workers: {reason}")
    return None


def _sizes(inputs: Sequence[Input]) -> Iterator[int]:
    """Bytes of the text files; the many of other kinds are not asked for theirs."""
    for source in inputs:
        if source.kind == "text":
            yield from (file_size(path) for path in list_files(source, Counter()))


def _why_not(config: RunConfig, inputs: Sequence[Input], can_submit: bool) -> str:
    """Why workers cannot plan these inputs, wherever they are, as far as names tell; empty if they can."""
    if not can_submit:
        return "this command submits one job only"
    if config.input.limit is not None:
        return "with input.limit only the beginning of the input is read"
    for source in inputs:
        if source.kind != "text":
            return f"{source.name} is no text file of URIs, and workers plan only these"
    return ""


def _not_to_be_cut(lists: Sequence[TextList]) -> Iterator[str]:
    """Why lists cannot be planned piece by piece."""
    for manifest in (found.manifest for found in lists):
        if manifest.compression:
            yield f"{manifest.name} is compressed, and so cannot be cut into pieces"
        if not is_store(manifest.path) and not os.path.isfile(manifest.path):
            yield f"{manifest.name} is no regular file, and so cannot be cut into pieces"


def _unreachable(config: RunConfig, inputs: Sequence[Input]) -> Iterator[str]:
    """Why workers cannot read these inputs, as far as that can be told."""
    if workers_are_here(config.runner.name, config.runner.options):
        return
    for source in inputs:
        if is_store(source.location):
            continue
        if config.runner.name == DATAFLOW:
            yield f"{source.name} is on this machine, and Dataflow's workers are not"
        if not uri_scheme(source.path) and not os.path.isabs(source.path):
            yield f"{source.name} is relative, and workers work elsewhere: it takes a gs:// or s3:// URI, or {SHARED}"
        if config.run.planning == "auto":
            yield f"{source.name} is on a disk that workers may not see (run.planning: runner says that they do)"


def _text_lists(inputs: Sequence[Input]) -> Iterator[TextList]:
    for source in inputs:
        paths = list(list_files(source, Counter()))
        if not paths:
            raise UsageError(nothing_matched(source, {}))
        for path in paths:
            manifest = manifest_of(source, path, Reading())
            try:
                version = version_of(path)  # before the size
                yield TextList(source, manifest, version, size_of(path))
            except OSError as error:
                raise UsageError(f"{manifest.name} cannot be read: {error.strerror or error}") from error
