"""How the model gets to workers elsewhere: from where it is, if they can reach that, or put there once for them all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.record import RunRecord, hash_files
from pipeline.runner_table import DATAFLOW, workers_are_here
from transforms.masking import mask_credentials
from transforms.model_source import ModelSource
from transforms.storage import StorageError, is_remote, open_storage

STORES = ("gs", "s3")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
Place = Literal["here", "staging", "store", "path"]


def model_place(config: RunConfig) -> Place:
    """Where the workers of a run get the model from.

    `here`: from where the launcher has it, in its own process. `staging`: from `model.staging`. `store`: from the
    object store that `model.handle` names. `path`: from the very path, on a shared disk or in the worker's image.

    Raises:
        UsageError: the workers cannot reach it.
    """
    runner, handle = config.runner, config.model.handle
    if workers_are_here(runner.name, runner.options):
        return "here"
    if config.model.staging is not None:
        if runner.name == DATAFLOW and not is_remote(config.model.staging):
            raise UsageError(f"model.staging: {config.model.staging} is not where Dataflow's workers are; use gs://")
        return "staging"
    scheme, separator, rest = handle.partition("://")
    archive = handle.lower().endswith(ARCHIVES)
    if separator and scheme.lower() in STORES and not archive:
        return "store"
    path = rest if scheme.lower() == "file" else handle
    # Dataflow's own image holds no models.
    if os.path.isabs(path) and not archive and (runner.name != DATAFLOW or runner.options.get("sdk_container_image")):
        return "path"
    raise UsageError(
        f"model.handle: {mask_credentials(handle)} is not where the workers of {runner.name} are; set model.staging to "
        "a gs:// or s3:// folder, or to a path on a disk that launcher and workers share: the model is put there once"
    )


def worker_model(config: RunConfig, record: RunRecord, say: Callable[[str], None]) -> ModelSource | None:
    """Where the workers get the model of a run from, put there if need be; None where the launcher's own will do.

    Raises:
        UsageError: they cannot reach it, or it cannot be put there.
    """
    source = planned_source(config, record)
    if source is not None and model_place(config) == "staging":
        stage(record.model, [name for name, _ in source.files], source.uri, say)
    return source


def planned_source(config: RunConfig, record: RunRecord) -> ModelSource | None:
    """What `worker_model` gives, without putting anything anywhere; without files for a model that is not here."""
    place = model_place(config)
    if place == "here":
        return None
    if place == "staging":
        assert config.model.staging is not None
        staging = config.model.staging
        if not is_remote(staging):
            staging = os.path.abspath(staging.removeprefix("file://"))
        uri = f"{staging.rstrip('/')}/{record.model_fingerprint}"
    elif place == "store":
        uri = _in_store(config.model.handle, record.model) if record.model else config.model.handle
    else:
        uri = os.path.abspath(record.model)
    return ModelSource(uri, tuple(hash_files(record.model)) if record.model else (), record.model_fingerprint)


def _in_store(handle: str, model: str) -> str:
    """The URI of the SavedModel: of the handle, or of the one folder in it that holds it."""
    from pipeline.handles.cache import hub_cache_folder

    below = Path(model).relative_to(hub_cache_folder()).parts[1:]
    return "/".join([handle.rstrip("/"), *below])


def stage(model: str, names: list[str], uri: str, say: Callable[[str], None]) -> None:
    """Put the files of a model into the folder `uri`, which its digest names: what is there is left as it is.

    Raises:
        UsageError: it cannot be written to.
    """
    try:
        storage = open_storage(uri)
        missing = [name for name in names if not storage.exists(name)]
        if missing:
            say(f"putting the model where the workers find it: {uri}")
            storage.prepare()
        for name in missing:
            storage.put_if_absent(name, Path(model, name).read_bytes())
    except (ValueError, StorageError, OSError) as error:
        raise UsageError(f"model.staging: {uri} cannot be written to: {error}") from None
