"""The fuzzing harness notices what it is there to notice; the long form is `python -m benchmarks.fuzz`."""

from __future__ import annotations

import sys

from benchmarks import fuzz
from transforms.header import FORMATS


def test_mutated_files_of_every_format_decode_or_have_a_reason() -> None:
    program = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "60"]
    findings = fuzz.run(60, lambda start: [*program, "--work", str(start)])
    assert findings.wrong == []
    assert {name for name, _, _ in findings.outcomes} == set(FORMATS) == set(fuzz.corpus())
    assert sum(findings.outcomes.values()) == 2 * 60
    text = fuzz.summary(findings, 60, 0)
    assert text.startswith("60 mutated files (seed 0), each decoded twice: 0 crashes,\n0 hangs, ")
    assert text.count("\n| ") == 2 + len(FORMATS)


def test_the_same_seed_gives_the_same_files() -> None:
    assert [fuzz.case(n, 1) for n in range(30)] == [fuzz.case(n, 1) for n in range(30)]
    assert [fuzz.case(n, 1) for n in range(30)] != [fuzz.case(n, 2) for n in range(30)]


PROGRAM = """
import os, sys, time
for n in range(int(sys.argv[1]), 6):
    print("begin", n, "png", flush=True)
    if n == 1: os.abort()
    if n == 3: time.sleep(60)
    if n == 4: os._exit(3)
    print("end strict", "unexpected:KeyError" if n == 5 else "decoded")
    print("done 0.5", 1000 * n, flush=True)
"""


def test_crashes_hangs_and_surprises_are_found() -> None:
    findings = fuzz.run(6, lambda start: [sys.executable, "-c", PROGRAM, str(start)], timeout=1)
    assert findings.crashes == {1: "signal 6", 4: "exit code 3"}
    assert findings.hangs == [3]
    assert findings.memory == [0, 2000, 5000]
    assert findings.growth == 5000
    assert len(findings.wrong) == 4
    assert findings.slowest == (0.5, 5)
