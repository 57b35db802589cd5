"""Folders and globs: local files in the order of their path components, objects in the order of their store."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

from pipeline.errors import UsageError
from pipeline.inputs.stores import walk_objects
from pipeline.inputs.suffixes import IMAGE_SUFFIXES, suffix_of
from transforms.locations import is_store

# Entries of a listing are names; what is no file carries a mark behind a NUL byte, which no name holds and which sorts
# before every byte of a longer name, so that marked entries stand where their names belong.
_FOLDER, _LINKED_FOLDER, _SPECIAL = b"folder", b"linked_folder", b"special"
_PACK_ENTRIES = 131_072


def walk_folder(folder: bytes, left_out: Counter[str], skip: bytes | None = None) -> Iterator[bytes]:
    """Image files below a folder, by suffix, sorted by path components; on a store in its order.

    Links to files are followed. Links to folders are followed too, but each real folder (device and inode) is entered
    once, under the first name the order meets, so links never loop.

    Args:
        folder: absolute path, or the location of a store's.
        left_out: counts `hidden` (files and whole folders), `unknown_suffix`, `not_a_file` (sockets, pipes, devices)
            and `folder_seen_before`.
        skip: a folder below it that is not entered; on a store, one whose objects are passed over.

    Raises:
        UsageError: a folder cannot be listed.
    """
    if is_store(folder):
        yield from _objects_below(folder + b"/", left_out, skip)
        return
    entered = {_identity(folder)}
    skipped = None if skip is None else _identity(skip)
    levels = [(folder.rstrip(b"/") + b"/", _listing(folder))]
    while levels:
        prefix, entries = levels[-1]
        for entry in entries:
            name, _, mark = entry.partition(b"\0")
            if name.startswith(b"."):
                left_out["hidden"] += 1
            elif not mark:
                if _is_image(name, left_out):
                    yield prefix + name
            elif mark == _SPECIAL:
                left_out["not_a_file"] += 1
            elif (identity := _identity(prefix + name)) in entered:
                left_out["folder_seen_before"] += 1
            elif identity is not None and identity != skipped:
                entered.add(identity)
                levels.append((prefix + name + b"/", _listing(prefix + name)))
                break
        else:
            levels.pop()


def _is_image(name: bytes, left_out: Counter[str]) -> bool:
    if suffix_of(name) in IMAGE_SUFFIXES:
        return True
    left_out["unknown_suffix"] += 1
    return False


def _objects_below(start: bytes, left_out: Counter[str], skip: bytes | None) -> Iterator[bytes]:
    hidden = b""  # the last folder that was
    skipped = b"" if skip is None else skip.rstrip(b"/") + b"/"
    if not skipped.startswith(start) or skipped == start:
        skipped = b""
    for path in _listed(start):
        if (hidden and path.startswith(hidden)) or (skipped and path.startswith(skipped)):
            continue
        if (dot := path.find(b"/.", len(start) - 1)) >= 0:
            left_out["hidden"] += 1
            slash = path.find(b"/", dot + 1)
            hidden = path[: slash + 1]
        elif not path.endswith(b"/") and _is_image(path, left_out):
            yield path


def match_glob(pattern: bytes, left_out: Counter[str]) -> Iterator[bytes]:
    """Files a shell pattern matches (`*`, `?`, `[...]`, `**` for any depth), sorted as `walk_folder` does, none twice.

    Every file counts, whatever its suffix. As in the shell, a name with a leading dot matches only a component that
    has one too, and `**` does not follow links to folders (so it cannot loop).

    Args:
        pattern: absolute, or the location of a store with wildcards behind the bucket.
        left_out: counts `folder` (those not searched further) and `not_a_file` among the matches.

    Raises:
        UsageError: a folder cannot be listed.
    """
    if is_store(pattern):
        yield from _matching_objects(pattern)
        return
    components = pattern.strip(b"/").split(b"/")
    fixed = next(index for index, component in enumerate(components) if glob.has_magic(component))
    base = b"/" + b"/".join(components[:fixed])
    matcher = _Matcher.compile(components[fixed:])
    if not os.path.isdir(base):
        return
    levels = [(base.rstrip(b"/") + b"/", matcher.start(), _listing(base))]
    while levels:
        prefix, state, entries = levels[-1]
        for entry in entries:
            name, _, mark = entry.partition(b"\0")
            following, is_match = matcher.step(state, os.fsdecode(name), is_linked=mark == _LINKED_FOLDER)
            if is_match and not mark:
                yield prefix + name
            elif is_match and mark == _SPECIAL:
                left_out["not_a_file"] += 1
            elif is_match and not following:
                left_out["folder"] += 1
            if following and mark in (_FOLDER, _LINKED_FOLDER):
                levels.append((prefix + name + b"/", following, _listing(prefix + name)))
                break
        else:
            levels.pop()


def _matching_objects(pattern: bytes) -> Iterator[bytes]:
    """One listing, of what begins as the pattern does before its first wildcard."""
    scheme, _, bucket, *components = pattern.split(b"/")
    root = b"/".join([scheme, b"", bucket, b""])
    fixed = next(index for index, component in enumerate(components) if glob.has_magic(component))
    base = root + b"".join(component + b"/" for component in components[:fixed])
    matcher = _Matcher.compile(components[fixed:])
    head = re.split(rb"[*?[]", components[fixed], maxsplit=1)[0]
    folders: list[bytes] = []  # those that the last object was in
    states = [matcher.start()]  # in the base, and in each of these
    for path in _listed(base + head):
        *inner, name = path[len(base) :].split(b"/")
        if inner != folders:
            same = len(list(takewhile(bool, map(eq, inner, folders))))
            del states[same + 1 :]
            for folder in inner[same:]:
                states.append(matcher.step(states[-1], os.fsdecode(folder), is_linked=False)[0])
            folders = inner
        if name and matcher.step(states[-1], os.fsdecode(name), is_linked=False)[1]:
            yield path


def _listed(start: bytes) -> Iterator[bytes]:
    try:
        yield from walk_objects(start)
    except OSError as error:
        raise UsageError(f"input.path: {os.fsdecode(start)!r} cannot be listed: {error}") from error


@dataclass(frozen=True)
class _Matcher:
    """A pattern as an automaton: a state is the set of components that may come next, so each file is found once."""

    components: tuple[re.Pattern[str] | None, ...]  # None is `**`
    takes_hidden: tuple[bool, ...]

    @classmethod
    def compile(cls, components: list[bytes]) -> _Matcher:
        texts = [os.fsdecode(component) for component in components]
        patterns = tuple(None if text == "**" else re.compile(fnmatch.translate(text)) for text in texts)
        return cls(patterns, tuple(text.startswith(".") for text in texts))

    def start(self) -> frozenset[int]:
        return self._closed({0})

    def step(self, state: frozenset[int], name: str, *, is_linked: bool) -> tuple[frozenset[int], bool]:
        """The state inside an entry of this name, and whether the entry itself is a match."""
        is_hidden = name.startswith(".")
        following = set()
        is_match = False
        for index in state:
            component = self.components[index]
            is_last = index == len(self.components) - 1
            if is_hidden and not self.takes_hidden[index]:
                continue
            if component is None:
                is_match |= is_last
                if not is_linked:
                    following.add(index)
            elif component.match(name):
                is_match |= is_last
                if not is_last:
                    following.add(index + 1)
        return self._closed(following), is_match

    def _closed(self, state: set[int]) -> frozenset[int]:
        """With what follows when `**` stands for no folder at all."""
        for index in sorted(state):
            while self.components[index] is None and index + 1 < len(self.components):
                index += 1
                state.add(index)
        return frozenset(state)


def _identity(folder: bytes | None) -> tuple[int, int] | None:
    if folder is None:
        return None
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listing(folder: bytes) -> Iterator[bytes]:
    """The entries of a folder, marked and sorted; empty when it vanished meanwhile.

    Millions of entries in one folder are packed into Arrow arrays, a quarter of the size of a list.
    """
    packed = []
    names: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(_marked(entry))
                if len(names) == _PACK_ENTRIES:
                    packed.append(_pack(names))
                    names = []
    except FileNotFoundError:
        return iter(())
    except OSError as error:
        name = os.fsdecode(folder)
        raise UsageError(f"input.path: the folder {name!r} cannot be listed: {error.strerror}") from error
    if not packed:
        return iter(sorted(names))
    return _sorted_packed([*packed, _pack(names)])


def _marked(entry: os.DirEntry[bytes]) -> bytes:
    try:
        if entry.is_dir():
            return entry.name + b"\0" + (_LINKED_FOLDER if entry.is_symlink() else _FOLDER)
        # a broken link is a row too, so that its failure is seen
        return entry.name if entry.is_symlink() or entry.is_file() else entry.name + b"\0" + _SPECIAL
    except OSError:
        return entry.name


def _pack(names: list[bytes]) -> object:
    import pyarrow as pa

    return pa.array(names, pa.binary())


def _sorted_packed(packed: Iterable[object]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.chunked_array(packed)
    order = pc.sort_indices(names)
    for start in range(0, len(order), _PACK_ENTRIES):
        yield from names.take(order[start : start + _PACK_ENTRIES]).to_pylist()
