"""DICOM, OpenEXR and Radiance HDR: the real tensorflow-io, and the checks that keep damaged files from it."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.transforms.formats import dicom, openexr, photo, radiance, saved
from transforms.codecs.light import srgb
from transforms.decode import decode_image
from transforms.errors import ImageError
from transforms.header import read_header
from transforms.preprocessing import Preprocessing

LINEAR = photo().astype(np.float32) / 255


def decoded(data: bytes, **changes: object) -> np.ndarray:
    return decode_image(data, read_header(data), Preprocessing(**changes))  # type: ignore[arg-type]


def failed(data: bytes, **changes: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoded(data, **changes)
    return caught.value


def test_srgb_at_its_fixed_points() -> None:
    linear = np.array([[-1.0, 0.0, 0.0031308, 0.18, 1.0, 7.0, np.inf, -np.inf, np.nan]])
    # 12.92 * 0.0031308 * 255 = 10.3; 18 % grey is level 118.
    assert srgb(linear).tolist() == [[0, 0, 10, 118, 255, 255, 255, 0, 0]]


@pytest.mark.parametrize("half", [True, False])
def test_openexr(half: bool) -> None:
    expected = srgb(LINEAR.astype(np.float16) if half else LINEAR)
    assert np.array_equal(decoded(openexr(LINEAR[..., ::-1], half=half)), expected)


def test_openexr_with_alpha_or_of_luminance_alone() -> None:
    alpha = np.concatenate([np.ones((48, 64, 1), np.float32), LINEAR[..., ::-1]], axis=2)
    assert np.array_equal(decoded(openexr(alpha, "ABGR", half=False)), srgb(LINEAR))
    grey = decoded(openexr(LINEAR[..., :1], "Y", half=False))
    assert np.array_equal(grey, np.repeat(srgb(LINEAR[..., :1]), 3, axis=2))


@pytest.mark.parametrize(
    "compression",
    [
        cv2.IMWRITE_EXR_COMPRESSION_RLE,
        cv2.IMWRITE_EXR_COMPRESSION_ZIPS,
        cv2.IMWRITE_EXR_COMPRESSION_ZIP,
        cv2.IMWRITE_EXR_COMPRESSION_PIZ,
    ],
)
def test_compressed_openexr(compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_IO_ENABLE_OPENEXR", "1")
    options = [cv2.IMWRITE_EXR_TYPE, cv2.IMWRITE_EXR_TYPE_FLOAT, cv2.IMWRITE_EXR_COMPRESSION, compression]
    data = cv2.imencode(".exr", LINEAR[..., ::-1], options)[1].tobytes()
    assert np.array_equal(decoded(data), srgb(LINEAR))
    # One byte inside the last chunk: of what deflate holds, none can be wrong unnoticed.
    if compression in (cv2.IMWRITE_EXR_COMPRESSION_ZIPS, cv2.IMWRITE_EXR_COMPRESSION_ZIP):
        damaged = data[:-9] + bytes([data[-9] ^ 0x55]) + data[-8:]
        assert failed(damaged).message == "the OpenEXR file's picture data is damaged"


def test_openexr_that_is_cut_short_is_truncated_everywhere() -> None:
    data = openexr(LINEAR)
    for end in (*range(4, 400, 7), len(data) // 2, len(data) - 1):
        assert failed(data[:end]).type == "truncated", end


def test_openexr_kinds_that_are_not_decoded() -> None:
    data = openexr(LINEAR)
    assert failed(openexr(LINEAR, "NUZ")).message == (
        "the OpenEXR file has neither R, G, B nor Y among its channels (N, U, Z)"
    )
    several = data[:4] + struct.pack("<I", 2 | 0x1000) + data[8:]
    assert failed(several).type == "unsupported_format"


@pytest.mark.parametrize("runs", [False, True])
def test_radiance(runs: bool) -> None:
    found = decoded(radiance(LINEAR, runs)).astype(int)
    # A mantissa of 8 bits shared by three channels.
    assert np.abs(found - srgb(LINEAR)).max() <= 16
    assert np.abs(found - srgb(LINEAR)).mean() < 2


def test_radiance_brighter_than_white() -> None:
    assert np.all(decoded(radiance(LINEAR + 3)) == 255)


@pytest.mark.parametrize("runs", [False, True])
def test_radiance_cut_short(runs: bool) -> None:
    data = radiance(LINEAR, runs)
    for end in (20, 40, 60, len(data) // 2, len(data) - 1):
        assert failed(data[:end]).type == "truncated", end


def test_radiance_runs_that_cannot_be() -> None:
    data = radiance(LINEAR, runs=True)
    start = data.index(b"\2\2\0\x40") + 4
    assert failed(data[:start] + b"\0" + data[start + 1 :]).message == "the HDR holds a run of no pixels"
    assert failed(data[:start] + b"\xff" + data[start + 1 :]).message == "the HDR holds a run longer than its row"
    assert failed(data.replace(b"-Y 48 +X 64", b"+Y 48 +X 64")).type == "unsupported_format"


@pytest.mark.parametrize("implicit", [False, True])
def test_grey_dicom(implicit: bool) -> None:
    stored = photo()[..., 0]
    found = decoded(dicom(stored, implicit=implicit))
    assert np.array_equal(found, np.repeat(stored[..., None], 3, axis=2))
    inverted = decoded(dicom(stored, "MONOCHROME1", implicit=implicit))
    # DCMTK rounds an inverted shade to the level beside it at times.
    assert np.abs(inverted.astype(int) - (255 - found)).max() <= 1


def test_colour_dicom() -> None:
    assert np.array_equal(decoded(dicom(photo(), "RGB")), photo())


def test_dicom_without_a_window_spans_its_bits() -> None:
    stored = photo()[..., 0].astype(np.uint16) * 257
    assert np.array_equal(decoded(dicom(stored))[..., 1], photo()[..., 0])


def windowed(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3, C.11.2.1.2.1, to 0..255."""
    return np.rint(np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)


@pytest.mark.parametrize(
    ("dtype", "rescale"), [(np.uint16, None), (np.int16, None), (np.int16, (-1024, 1)), (np.uint16, (-1000, 2))]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_dicom_goes_through_its_window(dtype: type, rescale: tuple[int, int] | None, photometric: str) -> None:
    stored = (photo()[..., 0].astype(int) * 8 - (0 if dtype is np.uint16 else 900)).astype(dtype)
    intercept, slope = rescale or (0, 1)
    values = stored.astype(int) * slope + intercept
    center, width = int(values.mean()), 700
    expected = windowed(values, center, width)
    if photometric == "MONOCHROME1":
        expected = 255 - expected
    found = decoded(dicom(stored, photometric, (center, width), rescale))[..., 0]
    assert np.abs(found - expected).max() <= 1


def test_dicom_cut_short() -> None:
    data = dicom(photo()[..., 0].astype(np.uint16))
    for end in (*range(140, 420, 11), len(data) // 2, len(data) - 1):
        error = failed(data[:end])
        # Cut between two elements, it is a DICOM without a picture, as many are.
        assert error.type == "truncated" or error.message == "the DICOM holds no pixel data", end


def test_dicom_of_many_frames_gives_the_first() -> None:
    first = photo()[..., 0]
    data = dicom(np.concatenate([first, 255 - first, first // 2])).replace(b"US\x02\0\x90\0", b"US\x02\0\x30\0")
    frames = struct.pack("<HH", 0x0028, 0x0008) + b"IS\x02\x003 "
    at = data.index(struct.pack("<HH", 0x0028, 0x0010))
    assert np.array_equal(decoded(data[:at] + frames + data[at:])[..., 0], first)


def encapsulated(jpeg: bytes) -> bytes:
    """Baseline JPEG inside a DICOM (PS3.5, A.4.1): an empty offset table and one fragment."""
    data = dicom(photo()[..., 0]).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.50")
    data = data.replace(b"UI\x14\x001.2.840.10008.1.2.4", b"UI\x16\x001.2.840.10008.1.2.4")
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010))
    jpeg += b"\0" * (len(jpeg) % 2)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(jpeg)) + jpeg
    head = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0" + struct.pack("<I", 0xFFFFFFFF)
    return data[:at] + head + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def test_dicom_around_a_jpeg() -> None:
    data = encapsulated(saved(Image.fromarray(photo()[..., 0]), "JPEG", quality=95))
    assert np.abs(decoded(data)[..., 0].astype(int) - photo()[..., 0]).max() <= 6
    for end in (len(data) - 1, len(data) - 9, len(data) - 200):
        assert failed(data[:end]).type == "truncated"
