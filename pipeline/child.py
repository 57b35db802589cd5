"""The process that runs the pipeline: `python -m pipeline.child OUTPUT LIBRARY EVENTS_FD`, started by `supervise`.

Its standard input is a pipe that the parent holds. The first line is the job: the shards to label, as JSON; it may come
late, since the parent starts the child before it plans: the child's imports take as long. When the pipe closes, the
child is to stop, or the parent is gone: it withdraws its marks of attempts and ends.
LIBRARY is what it imports first, `tensorflow` or `openvino`.
What it has to say goes as JSON lines to the file descriptor EVENTS_FD; all else it prints is log.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

from pipeline.agreement import float32_reference, telling_agreement
from pipeline.config import RunConfig, config_from_resolved
from pipeline.coverage import any_labelled
from pipeline.errors import HublabelError
from pipeline.job import parse_job
from pipeline.loading import columns_and_labels
from pipeline.record import RunRecord, load_record
from transforms.attempts import withdraw_marks
from transforms.lean import STORES, import_lean
from transforms.masked_output import mask_output
from transforms.masking import mask_values
from transforms.parts import DamagedPartError
from transforms.plan_reader import carried_columns
from transforms.records import Columns, Shard
from transforms.storage import StorageError, open_storage

IMPORT_PATIENCE = 300  # seconds; it takes one, on a slow network disk some more
MARKS_PATIENCE = 10.0  # seconds for withdrawing marks of attempts once the parent has gone


def main(arguments: list[str]) -> int:
    """Run the pipeline of the run in the output that the arguments name; returns the exit code."""
    return child_main(arguments, _listen_to_parent, run)


def child_main(
    arguments: list[str],
    listen: Callable[[BinaryIO, SimpleQueue[bytes]], None],
    work: Callable[[str, Any, Any], None],
    parse: Callable[[bytes], Any] = parse_job,
) -> int:
    """What every child does: hear its job, do it, and say what went wrong; returns the exit code.

    Args:
        arguments: the output, the library to import first, and the file descriptor for events.
        listen: puts the first line of standard input into the queue, and heeds what comes after.
        work: does the job: the output, what the line says, and what takes events.
        parse: makes of the line what `work` takes: the shards.
    """
    output, library, events = arguments[0], arguments[1], os.fdopen(int(arguments[2]), "w", buffering=1)

    def tell(event: str, **values: Any) -> None:
        events.write(json.dumps(mask_values({"event": event, **values})) + "\n")

    job: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, job), daemon=True).start()
    # After that, since an orphan must not live on for the seconds this takes. Whole before Beam's import, which then
    # may go on while the model is loaded: two imports of such size at once, in two threads, can wait for each other
    # for ever.
    import_lean(library)

    told = parse(job.get())
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("transforms").setLevel(logging.INFO)
    try:
        work(output, told, tell)
    except HublabelError as error:
        tell("error", message=str(error), exit_code=error.exit_code)
        return error.exit_code
    except Exception as error:
        disk = is_storage_error(error)  # which says all there is to say; of any other error the log has more
        tell("error", message=root_cause(error), exit_code=1, log=not disk)
        if not disk:
            traceback.print_exc()
        return 1
    return 0


def run(output: str, shards: list[Shard], tell: Any) -> None:
    """Label `shards` of the run in `output`.

    Raises:
        HublabelError: the run is not there, or the model does not fit the config.
    """
    storage = open_storage(output)
    record = load_record(storage, output)
    if record is None:
        raise HublabelError(f"{output}: no run to go on with")
    config = config_from_resolved(record.config, f"{output}/run.yaml")
    tell("phase", name="loading the model")
    with float32_reference(config, record, storage) as reference:
        columns, labels = _model_and_beam(config, record)
        _collect_again()
        columns = replace(columns, carried=carried_columns(storage, config.input.columns))
        with telling_agreement(reference, config, record, storage, shards, lambda text: tell("say", text=text)):
            tell("phase", name="labelling")
            _label(config, record, shards, columns, labels, any_labelled(storage, record.plan))


def _model_and_beam(config: RunConfig, record: RunRecord) -> tuple[Columns, tuple[str, ...] | None]:
    """Load the model, import Beam meanwhile; `columns_and_labels` of the run."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(columns_and_labels, config, record.model, record.model_fingerprint)
        # Should native code of the two ever wait for each other, the parent starts another child.
        faulthandler.dump_traceback_later(IMPORT_PATIENCE, exit=True, file=sys.__stderr__ or sys.stderr)
        import_lean("apache_beam", *STORES)
        import pipeline.graph
        import pipeline.runners  # noqa: F401

        faulthandler.cancel_dump_traceback_later()
        return loading.result()


def _label(config: RunConfig, record: RunRecord, shards: list[Shard], *found: Any) -> None:
    import apache_beam as beam

    from pipeline.graph import label
    from pipeline.runners import runner_and_options

    runner, options = runner_and_options(config.runner.name, config.runner.options)
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        label(pipeline, config, record, shards, *found)


def _collect_again() -> None:
    """Take up garbage collection again, but for what is there by now: modules, the model, the graph's classes."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def root_cause(error: BaseException) -> str:
    """The last line of what Beam wraps around a step's error, without its trimmings."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    line = lines[-1].strip() if lines else type(error).__name__
    line = re.sub(r"\s*\[while running '.*?'\]$", "", line)
    return re.sub(r"^(?:\w+\.)*(\w+): ", "", line) if re.match(r"^(?:\w+\.)+\w+: ", line) else line


def is_storage_error(error: BaseException) -> bool:
    """Whether a disk or object store is the cause, by the last line of what Beam wraps around a step's error."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    names = tuple(f"{kind.__module__}.{kind.__name__}: " for kind in (StorageError, DamagedPartError))
    return isinstance(error, (StorageError, DamagedPartError)) or any(line.startswith(names) for line in lines[-1:])


def _listen_to_parent(stream: BinaryIO, job: SimpleQueue[bytes]) -> None:
    line = stream.readline()
    if line:
        job.put(line)
        stream.read()
    _end_with_parent()


def _end_with_parent() -> None:
    end = threading.Timer(MARKS_PATIENCE, os._exit, (1,))
    end.daemon = True
    end.start()  # a store that does not answer must not keep an orphan
    withdraw_marks()
    os._exit(1)


def finish(code: int) -> NoReturn:
    """End the process: threads of other bundles and native libraries' exit handlers are not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    gc.disable()  # a million objects are made at the start and stay: looking through them time and again takes 0.5 s
    mask_output()
    finish(main(sys.argv[1:]))
