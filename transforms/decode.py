"""Bytes to pixels: which library decodes what, and what a row says when none can. See docs/images.md."""

from __future__ import annotations

import re
from importlib import metadata

import numpy as np

from transforms.codecs import bmp, dicom, gif, jpeg, openexr, partial, pillow, png, radiance, trusted
from transforms.codecs.common import Header, truncated, unsupported, upright
from transforms.codecs.failures import decode_failure, library_errors
from transforms.errors import ImageError
from transforms.geometry import reduction
from transforms.preprocessing import Preprocessing

_FINGERPRINTED = ("simplejpeg", "opencv-python-headless", "Pillow", "tensorflow", "tensorflow-io")
_BUNDLED = re.compile(r"lib(webp|tiff|avif|jpeg|openjp2)-[0-9a-f]+\.(?:so\.)?([0-9.]*[0-9])")


def decode_image(data: bytes, header: Header, spec: Preprocessing) -> np.ndarray:
    """Decode one image whole: never a partial picture, unless `spec.allow_truncated`.

    Args:
        data: the whole file.
        header: of the same bytes, from `read_header`, its size already checked with `check_limits`.
        spec: `exif` (turn upright), `background` (under alpha), `decoder` and `allow_truncated` apply; the rest tells
            how small the picture will be.

    Returns:
        uint8 `[H, W, 3]` RGB, C-contiguous; height and width as stored, swapped for orientations 5 to 8. A JPEG that
        an antialiasing filter will shrink a lot comes at a half, a quarter or an eighth of its size, see `reduction`.

    Raises:
        ImageError: stage `decode`; `truncated`, `corrupt`, `unsupported_format`, `out_of_memory`.
    """
    turned = spec.exif and header.orientation >= 5
    height, width = (header.width, header.height) if turned else (header.height, header.width)
    reduced = reduction(height, width, spec)
    try:
        if header.truncated:
            raise truncated(f"the {header.format.upper()} picture ends before it is complete")
        pixels = _decode(data, header, spec, reduced)
    except ImageError as error:
        pixels = _what_there_is(error, data, header, spec, reduced)
    except library_errors() as error:
        pixels = _what_there_is(decode_failure(error, header), data, header, spec, reduced)
    if spec.exif and header.orientation != 1:
        return upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def _what_there_is(failure: ImageError, data: bytes, header: Header, spec: Preprocessing, reduced: int) -> np.ndarray:
    """A partial picture, where that is allowed and possible; otherwise raises `failure`."""
    if not spec.allow_truncated or failure.type != "truncated":
        raise failure
    known: tuple[type[BaseException], ...] = (ImageError, *library_errors())
    try:
        pixels = partial.decode(data, header, reduced, spec.background)
    except known:
        pixels = None
    if pixels is None:
        raise failure
    return pixels


def _decode(data: bytes, header: Header, spec: Preprocessing, reduced: int) -> np.ndarray:
    if spec.decoder == "tensorflow-io" and header.format in trusted.FORMATS:
        return trusted.decode(data, header, reduced, spec.background)
    match header.format:
        case "jpeg":
            return jpeg.decode(data, header, reduced)
        case "png":
            return png.decode(data, header, spec.background)
        case "gif":
            return gif.decode(data, header, spec.background)
        case "bmp":
            return bmp.decode(data, header)
        case "webp":
            return pillow.decode_webp(data, spec.background)
        case "tiff":
            return pillow.decode_tiff(data, header, spec.background)
        case "avif":
            return pillow.decode_avif(data, spec.background)
        case "dicom":
            return dicom.decode(data, header)
        case "openexr":
            return openexr.decode(data)
        case "hdr":
            return radiance.decode(data)
    raise unsupported(f"no decoder for the format {header.format}")


def decode_fingerprint() -> dict[str, str]:
    """Names and versions of the libraries that decide pixels, and of those inside Pillow's wheel; imports none."""
    found = {name: _version(name) for name in _FINGERPRINTED}
    for name, version in _bundled("Pillow"):
        found[f"Pillow/{name}"] = version
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _bundled(name: str) -> list[tuple[str, str]]:
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return []
    matches = (_BUNDLED.match(file.name) for file in files)
    return sorted((match[1], match[2]) for match in matches if match)
