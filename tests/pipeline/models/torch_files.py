"""Write checkpoint files as torch does, and as an attacker would, without torch."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}
SAFETENSORS = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}


class Global(NamedTuple):
    """A name that the pickle asks its reader to import."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that the pickle asks its reader to make."""

    function: Any
    arguments: tuple[Any, ...]


class Storage(NamedTuple):
    """A reference to numbers outside of the pickle."""

    kind: str
    key: str
    size: int


ORDERED_DICT = Call(Global("collections", "OrderedDict"), ())


def tensor(storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Call:
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (storage, offset, shape, strides, False, ORDERED_DICT))


class Writer:
    """Collects arrays as storages, keyed "0", "1", ..."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.kinds: list[str] = []

    def add(self, array: np.ndarray, kind: str = "") -> Call:
        """The tensor of `array`; its memory order is kept, as torch keeps it."""
        self.arrays.append(array)
        self.kinds.append(kind or STORAGES[str(array.dtype)])
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return tensor(Storage(self.kinds[-1], str(len(self.arrays) - 1), array.size), array.shape, strides)

    def _data(self) -> list[bytes]:
        return [array.tobytes(order="A") for array in self.arrays]

    def save_zip(self, path: Path, content: Any, root: str = "archive", compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(f"{root}/data.pkl", pickled(content))
            archive.writestr(f"{root}/byteorder", "little")
            for key, data in enumerate(self._data()):
                archive.writestr(f"{root}/data/{key}", data)
        return path

    def save_legacy(self, path: Path, content: Any) -> Path:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        system = {"protocol_version": 1001, "little_endian": True}
        keys = [str(key) for key in range(len(self.arrays))]
        with path.open("wb") as file:
            for part in (magic, pickle.dumps(1001, 2), pickle.dumps(system, 2), pickled(content), pickled(keys)):
                file.write(part)
            for array, data in zip(self.arrays, self._data(), strict=True):
                file.write(struct.pack("<q", array.size) + data)
        return path


def save_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        dtype = SAFETENSORS[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    data = b"".join(array.tobytes() for array in arrays.values())
    return save_raw_safetensors(path, header, data)


def save_raw_safetensors(path: Path, header: Any, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def save_state_dict(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Plainly, in the format that the suffix asks for."""
    if path.suffix == ".safetensors":
        return save_safetensors(path, arrays)
    writer = Writer()
    return writer.save_zip(path, {name: writer.add(array) for name, array in arrays.items()})


def pickled(value: Any) -> bytes:
    out = io.BytesIO()
    out.write(pickle.PROTO + b"\x02")
    _emit(value, out)
    out.write(pickle.STOP)
    return out.getvalue()


def _emit(value: Any, out: io.BytesIO) -> None:
    if isinstance(value, Global):
        out.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
    elif isinstance(value, Call):
        _emit(value.function, out)
        _emit(tuple(value.arguments), out)
        out.write(pickle.REDUCE)
    elif isinstance(value, Storage):
        _emit(("storage", Global("torch", value.kind), value.key, "cpu", value.size), out)
        out.write(pickle.BINPERSID)
    elif isinstance(value, dict):
        out.write(pickle.EMPTY_DICT + pickle.MARK)
        for pair in value.items():
            _emit(pair[0], out)
            _emit(pair[1], out)
        out.write(pickle.SETITEMS)
    elif isinstance(value, tuple | list):
        out.write(pickle.MARK)
        for item in value:
            _emit(item, out)
        out.write(pickle.TUPLE if isinstance(value, tuple) else pickle.LIST)
    else:
        out.write(pickle.dumps(value, 2)[2:-1])
