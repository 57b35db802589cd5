"""What the machine's processor is and can."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

# As Linux calls the instructions that multiply bfloat16: AVX-512 BF16, AMX, Arm's BF16.
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def processor() -> str:
    """The processor's model."""
    return _told("model name") or platform.processor()


def has_bfloat16() -> bool:
    """Whether it multiplies bfloat16; without the instructions that would be slower than float32."""
    return not BFLOAT16.isdisjoint((_told("flags") or _told("Features")).split())


def _told(name: str) -> str:
    """What Linux says of the first processor under `name`; empty where it says nothing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""
