"""Measure all that docs/performance.md states, and write its tables: `make bench`, some ten minutes on two cores."""

from __future__ import annotations

import argparse

from benchmarks import memory, model_calls, whole_command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds of the whole commands (default: 5)")
    arguments = parser.parse_args()
    whole_command.report(images=2000, rounds=arguments.rounds, write=True)
    memory.report([500, 5000], write=True)
    model_calls.report(rounds=30, write=True)


if __name__ == "__main__":
    main()
