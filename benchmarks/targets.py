"""What hublabel is to reach, and whether it does: cells of the first table of docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import PAGE, replace_value


@dataclass(frozen=True)
class Target:
    """A bound for a measured value; `format` is how both are written."""

    bound: float
    at_least: bool
    format: str = "{:.2f}"

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = {
    "whole-tensorflow": Target(1.05, at_least=True),
    "whole-openvino": Target(1.5, at_least=True),
    "whole-bfloat16": Target(1.5, at_least=True),
    "whole-int8": Target(1.5, at_least=True),
    "convmixer-end-to-end": Target(0.95, at_least=True),
    "convmixer-engine": Target(1.3, at_least=True),
    "decode": Target(1.8, at_least=True),
    "overhead": Target(0.3, at_least=False, format="{:.2f} ms"),
    "first-batch": Target(1.5, at_least=False),
    "memory": Target(400, at_least=False, format="{:+,.0f} MB"),
    "plan-seconds": Target(60, at_least=False, format="{:.0f} s"),
    "plan-memory": Target(1000, at_least=False, format="{:,.0f} MB"),
    "resume": Target(5, at_least=False, format="{:.1f} s"),
}


def verdict(name: str, value: float) -> str:
    """The value as the table has it: `1.47, met`."""
    target = TARGETS[name]
    return f"{target.format.format(value)}, {'met' if target.met(value) else '**missed**'}"


def write_target(name: str, value: float, page: Path = PAGE) -> None:
    """Put what was measured into the table of targets. Raises as `tables.replace_table`."""
    replace_value(f"target-{name}", verdict(name, value), page)
