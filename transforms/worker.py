"""A Python worker process of a runner: `python -m transforms.worker CONTROL_ENDPOINT WORKER_ID`, started by a pool.

Its standard input is a pipe that the pool holds. When that closes, or the runner closes the control stream, the worker
withdraws its marks of attempts and ends at once: what it was labelling is another worker's by then, and Beam's own
workers would label on to the end of what they were given. All it says on its standard output is that it is connected.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from transforms.attempts import withdraw_marks
from transforms.lean import import_lean
from transforms.masked_output import mask_output

CONNECTED = b"connected\n"
MARKS_PATIENCE = 10.0  # seconds for withdrawing marks of attempts; a store that does not answer must not keep us

_ending = threading.Lock()


def main(control_endpoint: str, worker_id: str) -> None:
    """Serve the runner behind `control_endpoint` (`host:port`) until it, or the pool, has gone."""
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is log
    threading.Thread(target=_end_with_pool, daemon=True).start()
    # Both whole before any thread of Beam's imports more: two imports of such size at once can wait for ever.
    import_lean("tensorflow")
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING, force=True)
    harness = SdkHarness(control_endpoint, worker_id=worker_id)
    with answer:
        answer.write(CONNECTED)
    try:
        harness.run()
    except Exception:  # of whatever kind gRPC has for a runner that has died
        logging.getLogger(__name__).warning("the runner has gone", exc_info=True)
    finally:
        _end()


def _end_with_pool() -> None:
    sys.stdin.buffer.read()
    _end()


def _end() -> None:
    with _ending:  # never let go
        end = threading.Timer(MARKS_PATIENCE, os._exit, (1,))
        end.daemon = True
        end.start()
        withdraw_marks()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    mask_output()
    main(*sys.argv[1:])
