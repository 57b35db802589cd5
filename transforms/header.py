"""What an image file is and how large, from its bytes alone and before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from transforms.codecs import bmp, dicom, gif, jpeg, openexr, partial, pillow, png, radiance
from transforms.codecs.common import Header, unsupported
from transforms.codecs.failures import header_failure, library_errors
from transforms.codecs.sniff import looks_like, sniff
from transforms.errors import ImageError
from transforms.preprocessing import Preprocessing

__all__ = ["FORMATS", "Header", "check_limits", "read_header"]

_READERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": jpeg.read_header,
    "png": png.read_header,
    "gif": gif.read_header,
    "bmp": bmp.read_header,
    "webp": pillow.read_webp_header,
    "tiff": pillow.read_tiff_header,
    "avif": pillow.read_avif_header,
    "dicom": dicom.read_header,
    "openexr": openexr.read_header,
    "hdr": radiance.read_header,
}
FORMATS = tuple(_READERS)


def read_header(data: bytes, allow_truncated: bool = False) -> Header:
    """Read format, size and orientation by content, never by suffix; a damaged EXIF block does not fail a picture.

    Args:
        data: the whole file.
        allow_truncated: whether it may end too early, behind what tells the size.

    Raises:
        ImageError: stage `decode`; `empty`, `unsupported_format` (saying what the bytes look like), `truncated`,
            `corrupt`.
    """
    if not data:
        raise ImageError("decode", "empty", "the file is empty")
    name = sniff(data)
    if name is None:
        raise unsupported(f"not a picture in a known format: it looks like {looks_like(data)}")
    try:
        return _READERS[name](data)
    except library_errors() as error:
        raise header_failure(error, name, len(data)) from error
    except ImageError as error:
        header = partial.read_header(name, data) if allow_truncated and error.type == "truncated" else None
        if header is None:
            raise
        return replace(header, truncated=True)


def check_limits(header: Header, data: bytes, spec: Preprocessing) -> None:
    """Refuse a picture whose pixels, as its header counts them, exceed `spec.max_pixels`, whatever its file's size.

    Raises:
        ImageError: `too_many_pixels`.
    """
    pixels = header.width * header.height
    if pixels > spec.max_pixels:
        raise ImageError(
            "decode",
            "too_many_pixels",
            f"the picture has {header.width:,} x {header.height:,} = {pixels:,} pixels in {len(data):,} bytes; "
            f"{spec.max_pixels:,} pixels are allowed",
        )
