"""Read the weights of a PyTorch checkpoint without torch, and without running what a pickle asks for.

Formats: safetensors; torch's zip archive (`torch.save` since 1.6); torch's older file of five pickles followed by raw
storages. They are told apart by content, never by the file's name. Layouts: torch/serialization.py and
https://huggingface.co/docs/safetensors#format.

A pickle names the Python callables that rebuild its objects. `_TensorUnpickler` knows the few that rebuild tensors, as
stand-ins of its own which only take notes, and refuses every other name.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
MAX_SAFETENSORS_HEADER = 100_000_000  # bytes; the limit of the safetensors library

# Where training scripts put the weights, most wanted first: averaged (EMA) weights are the ones whose accuracy is
# published, and timm prefers them too.
NESTING_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
PARALLEL_PREFIX = "module."  # torch.nn.DataParallel

BFLOAT16 = "bfloat16"  # no NumPy dtype: widened to float32, which is exact
STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": BFLOAT16,
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit the model; the message names the file or the parameter."""


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor of a checkpoint's state dict.

    Args:
        path: a `.safetensors`, `.pth`, `.pt` or `.pth.tar` file on a local disk. The state dict may stand plainly or
            under one of `NESTING_KEYS`; a leading `module.` of a name is removed.

    Returns:
        Name to array, C-contiguous, in the stored shape and dtype (bfloat16 as float32), in the file's order.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or its pickle names anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    head = file.read(max(len(LEGACY_MAGIC), 9))
    file.seek(0)
    if head.startswith(ZIP_MAGIC):
        return _read_zip(file)
    if head.startswith(LEGACY_MAGIC):
        return _read_legacy(file, size)
    if head[8:9] == b"{":
        return _without_prefix(_read_safetensors(file, size))
    raise CheckpointError("is neither a safetensors file nor a torch checkpoint (zip or legacy format)")


# --- safetensors -----------------------------------------------------------------------------------------------------


def _read_safetensors(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, MAX_SAFETENSORS_HEADER):
        raise CheckpointError(f"safetensors header of {length} bytes does not fit a file of {size} bytes")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise CheckpointError("safetensors header is not valid JSON") from None
    if not isinstance(header, dict):
        raise CheckpointError("safetensors header is no JSON object")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = SAFETENSORS_TYPES.get(entry["dtype"]), tuple(entry["shape"])
            begin, end = entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise CheckpointError(f"safetensors entry of '{name}' lacks dtype, shape or data_offsets") from None
        if dtype is None:
            raise CheckpointError(f"'{name}' has dtype {entry['dtype']}; readable are {', '.join(SAFETENSORS_TYPES)}")
        if not _all_counts(*shape, begin, end):
            raise CheckpointError(
                f"'{name}' has shape {list(shape)} at bytes {begin} to {end}, which no tensor can have"
            )
        storage = _Storage(dtype, math.prod(shape))
        if end - begin != storage.nbytes or 8 + length + end > size:
            raise CheckpointError(f"'{name}' lies at bytes {begin} to {end}, which its shape or the file contradicts")
        file.seek(8 + length + begin)
        tensors[name] = storage.values(file.read(storage.nbytes)).reshape(shape)
    return tensors


# --- torch -----------------------------------------------------------------------------------------------------------


# Named tuples, because a pickle can rewrite the attributes of anything that has a __dict__.
class _Storage(NamedTuple):
    """A flat run of numbers, little-endian unless told otherwise."""

    dtype: str
    size: int
    key: str = ""
    offset: int = 0  # elements into the root storage: old checkpoints have views of storages

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def values(self, data: bytes, byteorder: Literal["<", ">"] = "<") -> np.ndarray:
        """`[size]` numbers in native byte order; CheckpointError when `data` is short."""
        if len(data) < self.nbytes:
            raise CheckpointError(f"storage {self.key!r} has {len(data)} bytes where {self.nbytes} are needed")
        stored = np.dtype("uint16" if self.dtype == BFLOAT16 else self.dtype)
        array = np.frombuffer(data, stored.newbyteorder(byteorder), self.size).astype(stored)
        if self.dtype == BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


class _Tensor(NamedTuple):
    """What a pickle says about a tensor; the numbers are fetched for those that are wanted."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storage: np.ndarray) -> np.ndarray:
        """Raises CheckpointError when the tensor reaches outside of its storage or repeats it."""
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or not _all_counts(*numbers):
            raise CheckpointError(f"a tensor has shape {self.shape}, strides {self.strides}, offset {self.offset}")
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if count and (last >= storage.size or count > storage.size):
            raise CheckpointError(f"a tensor of shape {self.shape} reaches outside of its storage")
        if not count:
            return np.empty(self.shape, storage.dtype)
        steps = [step * storage.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, steps, writeable=False)
        return np.array(view, order="C")


class _StateDict(dict[Any, Any]):
    """Stands in for OrderedDict; the `_metadata` that torch pickles along with it is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and `_Tensor`s, nothing else."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        # Made anew for each file: a pickle can set attributes on what it is given.
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): lambda *items: _StateDict(*items),
            ("torch._utils", "_rebuild_tensor"): lambda *args: _rebuild_tensor(*args),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _rebuild_tensor(*args[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda *args: args[0],
            ("torch", "Size"): lambda *items: tuple(*items),
            **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((module, name))
        if known is None:
            raise CheckpointError(
                f"its pickle asks for {module}.{name}; only tensors are read from a checkpoint. "
                "Save the state dict alone, best as .safetensors"
            )
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, size, *view = pid
        offset = 0
        if view and view[0] is not None:
            _view_key, offset, size = view[0]
        if kind != "storage" or dtype not in STORAGE_TYPES.values() or not _all_counts(size, offset):
            raise CheckpointError(f"its pickle refers to {kind!r} of type {dtype!r}, which is no tensor storage")
        return _Storage(dtype, size, str(key), offset)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise CheckpointError("a tensor of its pickle has no storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _unpickle(file: IO[bytes]) -> Any:
    try:
        return _TensorUnpickler(file).load()
    except CheckpointError:
        raise
    # A damaged pickle can fail in any way that Python code can.
    except Exception as error:
        raise CheckpointError(f"its pickle is damaged ({type(error).__name__}: {error})") from None


def _read_zip(file: IO[bytes]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive)
    except CheckpointError:
        raise
    except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"is a damaged zip archive ({error})") from None


def _read_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    entries = {info.filename: info for info in archive.infolist()}
    root = next((name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")), None)
    if root is None:
        raise CheckpointError("is a zip archive without data.pkl, so no torch checkpoint")
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
        raise CheckpointError("is a compressed zip archive; torch stores without compression")
    order = entries.get(f"{root}byteorder")
    byteorder: Literal["<", ">"] = ">" if order is not None and archive.read(order).strip() == b"big" else "<"

    def load(storage: _Storage) -> np.ndarray:
        info = entries.get(f"{root}data/{storage.key}")
        if info is None or info.file_size < storage.nbytes:
            raise CheckpointError(f"storage {storage.key!r} of {storage.nbytes} bytes is missing or short")
        return storage.values(archive.read(info), byteorder)

    with archive.open(f"{root}data.pkl") as file:
        return _tensors(_unpickle(file), load)


def _read_legacy(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    _magic, protocol, system = _unpickle(file), _unpickle(file), _unpickle(file)
    if protocol != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise CheckpointError(f"legacy torch checkpoint of protocol {protocol}, system {system}: cannot be read")
    content, keys = _unpickle(file), _unpickle(file)
    if not isinstance(keys, list):
        raise CheckpointError("legacy torch checkpoint lacks its list of storages")
    itemsizes: dict[str, int] = {}
    for storage in _storages(content):
        if itemsizes.setdefault(storage.key, storage.itemsize) != storage.itemsize:
            raise CheckpointError(f"storage {storage.key!r} is taken for numbers of two sizes")
    places = {}
    for key in map(str, keys):
        header = file.read(8)
        if len(header) < 8 or key not in itemsizes:
            raise CheckpointError(f"storage {key!r} is missing or used by no tensor")
        (count,) = struct.unpack("<q", header)
        end = file.tell() + count * itemsizes[key]
        if count < 0 or end > size:
            raise CheckpointError(f"storage {key!r} of {count} numbers is cut off: the file is incomplete")
        places[key] = (file.tell(), count)
        file.seek(end)

    def load(storage: _Storage) -> np.ndarray:
        place, count = places.get(storage.key, (0, -1))
        if storage.offset + storage.size > count:
            raise CheckpointError(f"storage {storage.key!r} is missing or short")
        file.seek(place + storage.offset * storage.itemsize)
        return storage.values(file.read(storage.nbytes))

    return _tensors(content, load)


def _storages(value: Any) -> list[_Storage]:
    """Every storage that a tensor anywhere in `value` uses."""
    found, pending, seen = [], [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, _Tensor):
            found.append(item.storage)
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)
    return found


def _tensors(content: Any, load: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__} where a dict of tensors is expected")
    nested = next((content[key] for key in NESTING_KEYS if isinstance(content.get(key), dict)), content)
    strangers = [str(name) for name, value in nested.items() if not isinstance(value, _Tensor)]
    if strangers or not nested:
        raise CheckpointError(
            f"holds no state dict: {_some(strangers) or 'it is empty'}. "
            f"The weights must stand at the top or under {', '.join(NESTING_KEYS)}"
        )
    cache: dict[_Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in nested.items():
        if tensor.storage not in cache:
            cache[tensor.storage] = load(tensor.storage)
        arrays[str(name)] = tensor.array(cache[tensor.storage])
    return _without_prefix(arrays)


def _without_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    plain = {name.removeprefix(PARALLEL_PREFIX): array for name, array in arrays.items()}
    if len(plain) < len(arrays):
        raise CheckpointError(f"has parameters both with and without the prefix '{PARALLEL_PREFIX}'")
    return plain


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more are no tensors" if len(names) > 3 else shown and f"{shown} is no tensor"


def _all_counts(*values: Any) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)
