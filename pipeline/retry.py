"""`hublabel retry`: failed rows are taken up again; good ones are carried over unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.coverage import Coverage
    from transforms.records import Shard

Choose = Callable[[str, str], bool]  # of (error_stage, error_type)


def retry_command(output: str, stages: Sequence[str], types: Sequence[str], form: str | None = None) -> int:
    """Try failed images of the run in `output` again; returns the exit code.

    Args:
        stages: only failures of these stages; all when empty.
        types: only failures of these types; all when empty.
        form: what it says while it works: None, `quiet` or `json`, see `pipeline.console.voice`.

    Raises:
        UsageError: there is no run in `output`.
    """
    from pipeline.config import config_from_resolved
    from pipeline.console import voice
    from pipeline.record import NAME, load_record
    from pipeline.run import supervised
    from pipeline.supervise import retry
    from transforms.storage import open_storage

    try:
        storage = open_storage(output)
    except ValueError as error:
        raise UsageError(str(error)) from None
    record = load_record(storage, storage.root)
    if record is None:
        raise UsageError(f"{output}: no run here (no {NAME})")
    # The model is where the run had it: its handle may have lost credentials, and need not be fetched again.
    model = {**record.config["model"], "handle": record.model, "sha256": None}
    values = {**record.config, "model": model, "output": {**record.config["output"], "path": output}}
    config = config_from_resolved(values, f"{output}/{NAME}")

    def choose(stage: str, kind: str) -> bool:
        return (not stages or stage in stages) and (not types or kind in types)

    console = voice(form)
    return supervised(lambda: retry(config, console, choose), output, console, form)


def shards_to_retry(coverage: Coverage, choose: Choose) -> Iterator[Shard]:
    """A shard of the next generation for each part with failed rows that `choose` takes."""
    from transforms.parts import part_name, read_rows
    from transforms.records import Shard

    for footer in coverage.footers():
        if not footer.failed:
            continue
        name = part_name(Shard(footer.file, footer.row_group, footer.rows, footer.generation))
        table = read_rows(coverage.storage, name, ["error_stage", "error_type"])
        reasons = zip(table["error_stage"].to_pylist(), table["error_type"].to_pylist(), strict=True)
        positions = tuple(i for i, (stage, kind) in enumerate(reasons) if stage is not None and choose(stage, kind))
        if positions:
            yield Shard(footer.file, footer.row_group, len(positions), footer.generation + 1, positions)
