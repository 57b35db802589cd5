"""Recycled memory: used again when nobody can see it any more, and not a moment earlier."""

import gc
import threading

import numpy as np
import pytest

from transforms.buffers import KEPT, Buffers

pytestmark = pytest.mark.usefixtures("quick_collections")
SHAPE = (4, 8, 8, 3)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.empty(SHAPE, "float32")
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert address(first) % 64 == 0
    where = address(first)
    del first
    assert address(buffers.empty(SHAPE, "float32")) == where


def test_two_arrays_never_share_memory() -> None:
    buffers = Buffers()
    first, second = buffers.empty(SHAPE, "float32"), buffers.empty(SHAPE, "float32")
    assert not np.shares_memory(first, second)


def test_whoever_sees_a_part_keeps_the_memory() -> None:
    buffers = Buffers()
    views = {
        "a slice": lambda array: array[2:3],
        "a slice of a slice": lambda array: array[1:][1:, 0][0],
        "another shape": lambda array: array.reshape(-1)[5:].view("uint8"),
        "the buffer protocol": memoryview,
        "a copy-free asarray": lambda array: np.asarray(array.T)[::2],
        "DLPack": lambda array: np.from_dlpack(array),
    }
    for name, see in views.items():
        array = buffers.empty(SHAPE, "float32")
        array[:] = 7
        view = see(array)
        before = np.array(view)
        del array
        gc.collect()
        for _ in range(2):
            other = buffers.empty(SHAPE, "float32")
            other[:] = 1
        assert (np.asarray(view) == before).all(), name
        del view, other


def test_a_tensor_keeps_the_memory() -> None:
    import tensorflow as tf

    buffers = Buffers()
    array = buffers.empty(SHAPE, "float32")
    array[:] = 7
    tensor = tf.experimental.dlpack.from_dlpack(array[1:3].__dlpack__())
    del array
    gc.collect()
    buffers.empty(SHAPE, "float32")[:] = 1
    assert (tensor.numpy() == 7).all()


def test_other_sizes_get_memory_of_their_own() -> None:
    buffers = Buffers()
    small = buffers.empty((2, 3), "uint8")
    del small
    large = buffers.empty((200, 300), "float32")
    large[:] = 5
    assert large.sum() == 5 * 200 * 300
    assert buffers.empty((0, 3), "float32").shape == (0, 3)


def test_no_more_than_so_many_wait() -> None:
    buffers = Buffers()
    arrays = [buffers.empty(SHAPE, "float32") for _ in range(KEPT + 5)]
    arrays.clear()
    assert len(buffers._free) == KEPT


def test_many_threads() -> None:
    buffers = Buffers()
    wrong = []

    def work(value: int) -> None:
        for _ in range(300):
            array = buffers.empty(SHAPE, "uint8")
            array[:] = value
            if not (array == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
