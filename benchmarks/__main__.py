"""Measure what docs/performance.md states, and write its tables: `make bench`, about twenty minutes on two cores.

The comparison with other software takes environments of its own: `make bench-peers`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks.measured import ROOT

# Each in a process of its own: libraries, settings and memory of one must not weigh on the next.
BENCHMARKS = ("whole_command", "memory", "growth", "large_runs", "stages", "decode", "model_calls", "engines")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME", help="of %(choices)s"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    failed = []
    for name in parser.parse_args().only:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--write"]
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the other tables are written")


if __name__ == "__main__":
    main()
