"""Damaged files: each is a picture or a reason, never a partial picture, a crash, or a library's own words."""

from __future__ import annotations

import random
import re
import threading
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.transforms.formats import mutated, photo, saved
from tests.transforms.test_header import FILES
from transforms.decode import decode_image
from transforms.errors import ImageError
from transforms.header import FORMATS, check_limits, read_header
from transforms.preprocessing import Preprocessing

SPEC = Preprocessing(max_pixels=1_000_000)
TYPES = {"empty", "unsupported_format", "truncated", "corrupt", "too_many_pixels", "out_of_memory"}


def outcome(data: bytes, spec: Preprocessing = SPEC) -> tuple[int, ...] | ImageError:
    """What `DecodeImages` does with the bytes: the picture's shape, or the reason."""
    try:
        header = read_header(data, spec.allow_truncated)
        check_limits(header, data, spec)
        pixels = decode_image(data, header, spec)
    except ImageError as error:
        return error
    assert pixels.dtype == np.uint8
    assert sorted(pixels.shape[:2]) == sorted((header.height, header.width))
    return pixels.shape


def reason(data: bytes) -> ImageError:
    found = outcome(data)
    assert isinstance(found, ImageError), found
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_never_a_partial_picture(name: str) -> None:
    data = FILES[name]
    # Without its last byte a GIF lacks the trailer after the picture, a BMP nothing but padding at most.
    whole = 1 if name == "gif" else 0
    for end in (200, len(data) // 4, len(data) // 2, len(data) * 9 // 10, len(data) - 1 - whole):
        assert reason(data[:end]).type in ("truncated", "corrupt"), (name, end)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_cut_anywhere_is_truncated(options: dict[str, object]) -> None:
    data = saved(photo(), "JPEG", **options)
    for end in range(3, len(data)):
        assert reason(data[:end]).type == "truncated", end


def test_a_jpeg_cut_and_closed_again_is_not_taken_for_whole() -> None:
    data = saved(photo(), "JPEG")
    assert reason(data[: len(data) * 2 // 3] + b"\xff\xd9").type in ("truncated", "corrupt")


def test_damaged_picture_data() -> None:
    png = FILES["png"]
    damaged = png[:60] + b"\0\0\0\0" + png[64:]
    assert reason(damaged).message == "the PNG's IDAT chunk does not have its checksum"
    end = 41 + int.from_bytes(png[33:37], "big")
    mended = damaged[:end] + zlib.crc32(damaged[37:end]).to_bytes(4, "big") + damaged[end + 4 :]
    assert reason(mended).message == "the PNG picture is damaged and cannot be decoded"
    jpeg = FILES["jpeg"]
    at = jpeg.index(b"\xff\xda") + 200
    assert reason(jpeg[:at] + b"\xff\xff\xff\x7f" * 8 + jpeg[at + 32 :]).type == "corrupt"


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, allow_truncated=True)], ids=["strict", "lenient"])
@pytest.mark.parametrize("name", FORMATS)
def test_mutations_decode_or_have_a_reason(name: str, spec: Preprocessing) -> None:
    rng = random.Random(name)
    seen: Counter[str] = Counter()
    for _ in range(200):
        found = outcome(mutated(FILES[name], rng), spec)
        if isinstance(found, ImageError):
            assert found.stage == "decode"
            assert found.type in TYPES
            assert len(found.message) <= 200
            assert not re.search(r"node|tensorflow|\[Op|/job|0x[0-9a-f]{6}|Traceback", found.message), found.message
            seen[found.type] += 1
        else:
            seen["decoded"] += 1
    assert seen.total() == 200
    assert seen["decoded"] < 200


def test_many_threads_at_once_agree() -> None:
    expected = {name: decode_image(data, read_header(data), SPEC) for name, data in FILES.items()}
    wrong: list[str] = []

    def decode_all() -> None:
        for _ in range(5):
            for name, data in FILES.items():
                if not np.array_equal(decode_image(data, read_header(data), SPEC), expected[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=decode_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
