import io
import logging
import subprocess
import sys

from transforms.masked_output import MaskedStream

URI = "https://user:pw@host/a?sig=abc"
MASKED = "https://***@host/a?sig=***"


def test_lines_are_masked_however_they_are_cut() -> None:
    stream = io.StringIO()
    masked = MaskedStream(stream)
    for piece in ("see https://us", "er:p", "w@host/a?si", "g=abc and\n", "more"):
        assert masked.write(piece) == len(piece)
    assert stream.getvalue() == f"see {MASKED} and\n"
    masked.flush()
    assert stream.getvalue() == f"see {MASKED} and\nmore"


def test_logging_writes_masked() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(MaskedStream(stream))
    handler.emit(logging.makeLogRecord({"msg": "cannot read %s", "args": (URI,)}))
    assert stream.getvalue() == f"cannot read {MASKED}\n"


def test_a_process_prints_and_dies_without_credentials() -> None:
    program = f"""
import sys, threading, warnings
from transforms.masked_output import mask_output
mask_output()
print({URI!r})
warnings.warn({URI!r})
def fail(): raise ValueError({URI!r})
thread = threading.Thread(target=fail); thread.start(); thread.join()
sys.stderr.write("last words " + {URI!r})
sys.stderr.flush(); sys.stdout.flush()
fail()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{MASKED}\n"
    assert done.stderr.count(MASKED) >= 4
    assert f"ValueError: {MASKED}" in done.stderr
    without_source = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert not any("pw@" in line or "abc" in line for line in without_source)
