"""The one place where what libraries raise for bad pictures becomes a reason that people understand."""

from __future__ import annotations

import struct
import sys

from transforms.codecs.common import Header, corrupt, truncated, unsupported
from transforms.errors import ImageError

# SyntaxError, KeyError and the like are Pillow's answers to damaged structure.
_KNOWN: tuple[type[BaseException], ...] = (
    ValueError,
    OSError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
)


def library_errors() -> tuple[type[BaseException], ...]:
    """Everything the decoders are known to raise for bad pictures, TensorFlow's only where it is loaded."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)  # it may be half imported, by another thread
    return (*_KNOWN, errors.OpError) if errors is not None else _KNOWN


def header_failure(error: BaseException, name: str, size: int) -> ImageError:
    """Explain a header of format `name` that could not be read from `size` bytes."""
    if isinstance(error, (struct.error, EOFError, IndexError)):
        return truncated(f"the {name.upper()} file ends inside its header, after {size:,} bytes")
    return corrupt(f"the {name.upper()} file's header is damaged")


def decode_failure(error: BaseException, header: Header) -> ImageError:
    """Explain pixels that could not be decoded."""
    what = f"the {header.format.upper()} picture"
    said = str(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return ImageError(
            "decode", "out_of_memory", f"not enough memory to decode {header.width:,} x {header.height:,} pixels"
        )
    if "truncated" in said or "premature end" in said or isinstance(error, EOFError):
        return truncated(f"{what} ends before it is complete")
    if "conversion from" in said or ("unknown" in said and "compression" in said):
        return unsupported(f"{what} is of a kind that is not decoded")
    return corrupt(f"{what} is damaged and cannot be decoded")
