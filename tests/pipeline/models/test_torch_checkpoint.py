import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.efficientnet_lite0 import installed_checkpoint
from pipeline.models.torch_checkpoint import CheckpointError, read_checkpoint
from tests.pipeline.models.torch_files import (
    Call,
    Global,
    Storage,
    Writer,
    save_raw_safetensors,
    save_safetensors,
    tensor,
)

DATA = Path(__file__).parents[2] / "data" / "convmixer"
ARRAYS = {
    "stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "stem.steps": np.array(1234567890123, dtype=np.int64),
    "half": np.array([[1.5, -2.0]], dtype=np.float16),
    "empty": np.zeros((0, 3), dtype=np.float32),
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], array)


def save(kind, path, nest=lambda state: state, arrays=ARRAYS):
    if kind == "safetensors":
        return save_safetensors(path, arrays)
    writer = Writer()
    content = nest({name: writer.add(array) for name, array in arrays.items()})
    return writer.save_zip(path, content) if kind == "zip" else writer.save_legacy(path, content)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_reads_every_format_whatever_the_name(kind, tmp_path):
    assert_same(read_checkpoint(save(kind, tmp_path / "weights.bin")), ARRAYS)


@pytest.mark.parametrize("name", ["gelu_k5_p7", "relu_k7_p4"])
def test_files_of_torch_and_of_safetensors_hold_the_same(name):
    # relu_k7_p4.pth nests the state dict, and the library orders names differently.
    pth, safe = read_checkpoint(DATA / f"{name}.pth"), read_checkpoint(DATA / f"{name}.safetensors")
    assert_same(dict(sorted(pth.items())), dict(sorted(safe.items())))
    classes = json.loads((DATA / "spec.json").read_text())[name]["classes"]
    assert pth["head.bias"].shape == (classes,)


def test_reads_the_legacy_file_of_a_real_model():
    arrays = read_checkpoint(installed_checkpoint())
    trainable = [name for name in arrays if name.endswith((".weight", ".bias"))]
    assert sum(arrays[name].size for name in trainable) == 4_652_008
    assert arrays["_fc.weight"].shape == (1000, 1280)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema"])
def test_finds_nested_weights_beside_other_things(kind, key, tmp_path):
    path = save(kind, tmp_path / "c.pth.tar", lambda state: {"epoch": 3, key: state, "args": ["--lr", 0.1]})
    assert_same(read_checkpoint(path), ARRAYS)


def test_prefers_averaged_weights(tmp_path):
    writer = Writer()
    raw, averaged = np.float32([1, 2]), np.float32([3, 4])
    content = {"state_dict": {"w": writer.add(raw)}, "state_dict_ema": {"w": writer.add(averaged)}}
    assert_same(read_checkpoint(writer.save_zip(tmp_path / "c.pth", content)), {"w": averaged})


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_removes_the_prefix_of_data_parallel(kind, tmp_path):
    path = save(kind, tmp_path / "c", arrays={f"module.{name}": array for name, array in ARRAYS.items()})
    assert_same(read_checkpoint(path), ARRAYS)


def test_prefix_that_makes_two_names_one_is_an_error(tmp_path):
    arrays = {"module.w": np.zeros(1, np.float32), "w": np.zeros(1, np.float32)}
    with pytest.raises(CheckpointError, match=r"both with and without the prefix 'module\.'"):
        read_checkpoint(save("safetensors", tmp_path / "c", arrays=arrays))


def test_widens_bfloat16_exactly(tmp_path):
    bits = np.array([0x3F80, 0xC040, 0x7F7F], dtype=np.uint16)  # 1, -3, the largest finite
    expected = {"w": np.array([1.0, -3.0, 3.3895313892515355e38], dtype=np.float32)}
    writer = Writer()
    content = {"w": writer.add(bits, "BFloat16Storage")}
    assert_same(read_checkpoint(writer.save_zip(tmp_path / "a.pth", content)), expected)
    header = {"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    assert_same(read_checkpoint(save_raw_safetensors(tmp_path / "a.safetensors", header, bits.tobytes())), expected)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_honours_strides_offsets_and_shared_storages(kind, tmp_path):
    writer = Writer()
    numbers = np.arange(12, dtype=np.float32)
    writer.add(numbers)
    storage = Storage("FloatStorage", "0", 12)
    content = {"transposed": tensor(storage, (4, 3), (1, 4)), "tail": tensor(storage, (2,), (1,), offset=10)}
    path = writer.save_zip(tmp_path / "c", content) if kind == "zip" else writer.save_legacy(tmp_path / "c", content)
    assert_same(read_checkpoint(path), {"transposed": numbers.reshape(3, 4).T.copy(), "tail": numbers[10:]})


def test_big_endian_archive(tmp_path):
    writer = Writer()
    call = writer.add(np.array([1.0, 2.0], dtype=">f4"), "FloatStorage")
    path = writer.save_zip(tmp_path / "c", {"w": call}, root="r")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**parts, "r/byteorder": b"big"}.items():
            archive.writestr(name, data)
    assert_same(read_checkpoint(path), {"w": np.float32([1, 2])})


# --- what must not happen --------------------------------------------------------------------------------------------

FORBIDDEN = [("os", "system"), ("builtins", "eval"), ("torch.storage", "_load_from_bytes"), ("argparse", "Namespace")]


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize(("module", "name"), FORBIDDEN)
def test_refuses_a_pickle_that_names_anything_but_tensors(kind, module, name, tmp_path):
    witness = tmp_path / "witness"
    attack = Call(Global(module, name), (f"touch {witness}",))
    path = save(kind, tmp_path / "c.pth", lambda state: {"state_dict": state, "args": attack})
    with pytest.raises(CheckpointError, match=rf"c\.pth: its pickle asks for {module}\.{name}"):
        read_checkpoint(path)
    assert not witness.exists()


def bad_files():
    floats = Storage("FloatStorage", "0", 4)
    one = np.zeros(4, np.float32)

    def write(content, **options):
        def save_to(path):
            writer = Writer()
            writer.add(one)
            return writer.save_zip(path, content, **options)

        return save_to

    def safetensors(header, data=b"\0" * 16):
        return lambda path: save_raw_safetensors(path, header, data)

    def raw(data):
        return lambda path: path.write_bytes(data)

    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return {
        "empty": (raw(b""), "neither a safetensors file nor a torch checkpoint"),
        "text": (raw(b"<html>404 not found</html>"), "neither a safetensors file nor a torch checkpoint"),
        "zip_of_something": (raw_zip, "without data.pkl"),
        "outside": (write({"w": tensor(floats, (5,), (1,))}), "reaches outside of its storage"),
        "far_offset": (write({"w": tensor(floats, (1,), (1,), 4)}), "reaches outside of its storage"),
        "negative_offset": (write({"w": tensor(floats, (1,), (1,), -1)}), "offset -1"),
        "repeated": (write({"w": tensor(floats, (10**6, 10**6), (0, 0))}), "reaches outside of its storage"),
        "long_storage": (write({"w": tensor(Storage("FloatStorage", "0", 5), (5,), (1,))}), "missing or short"),
        "no_storage": (write({"w": tensor(Storage("FloatStorage", "9", 4), (4,), (1,))}), "missing or short"),
        "odd_strides": (write({"w": tensor(floats, (2, 2), (1,))}), "strides"),
        "list": (write([1, 2]), "holds a list where a dict"),
        "no_tensors": (write({"epoch": 1}), "'epoch' is no tensor"),
        "nothing": (write({}), "it is empty"),
        "compressed": (write({"w": 1}, compression=zipfile.ZIP_DEFLATED), "compressed"),
        "header_list": (safetensors([1, 2, 3]), "neither a safetensors file"),
        "header_text": (raw(struct.pack("<Q", 3) + b"{no"), "not valid JSON"),
        "header_long": (raw(struct.pack("<Q", 2**60) + b"{}"), "does not fit"),
        "entry": (safetensors({"w": {"dtype": "F32"}}), "entry of 'w' lacks"),
        "dtype": (safetensors({"w": {**entry, "dtype": "F8_E4M3"}}), "'w' has dtype F8_E4M3"),
        "shape": (safetensors({"w": {**entry, "shape": [-4]}}), r"'w' has shape \[-4\]"),
        "short": (safetensors({"w": entry}, b"\0" * 12), "'w' lies at bytes 0 to 16"),
        "size": (safetensors({"w": {**entry, "shape": [3]}}), "'w' lies at bytes 0 to 16"),
    }


def raw_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "hello")


@pytest.mark.parametrize("case", bad_files())
def test_bad_file_is_one_clear_error(case, tmp_path):
    save_to, message = bad_files()[case]
    path = tmp_path / "c.pth"
    save_to(path)
    with pytest.raises(CheckpointError, match=rf"c\.pth: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_file_cut_off_anywhere_is_a_checkpoint_error(kind, tmp_path):
    whole = save(kind, tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for length in range(0, len(whole) - 1, 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(cut)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_file_with_a_wrong_byte_anywhere_is_read_or_a_checkpoint_error(kind, tmp_path):
    whole = save(kind, tmp_path / "whole").read_bytes()
    damaged, refused = tmp_path / "damaged", 0
    for position in range(len(whole)):
        damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        try:
            read_checkpoint(damaged)
        except CheckpointError:
            refused += 1
    assert refused > len(whole) // 10


def test_storage_that_two_tensors_take_for_different_types(tmp_path):
    writer = Writer()
    writer.add(np.zeros(4, np.float32))
    content = {
        "wide": tensor(Storage("DoubleStorage", "0", 4), (4,), (1,)),
        "right": tensor(Storage("FloatStorage", "0", 4), (4,), (1,)),
    }
    with pytest.raises(CheckpointError, match="storage '0' is taken for numbers of two sizes"):
        read_checkpoint(writer.save_legacy(tmp_path / "c.pth", content))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: cannot be read: No such file or directory"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_checkpoint(tmp_path)


def test_reading_imports_neither_torch_nor_tensorflow():
    code = (
        "import sys; from pipeline.models.torch_checkpoint import read_checkpoint; "
        "import pipeline.models.efficientnet_lite0, pipeline.models.saved_model; "
        f"read_checkpoint({str(DATA / 'gelu_k5_p7.pth')!r}); "
        "print(sorted({'torch', 'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
