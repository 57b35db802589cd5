"""Models on Kaggle, where TensorFlow Hub has moved, through `kagglehub` and its cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.handles.cache import find_saved_model, hub_cache_folder, locked
from pipeline.handles.errors import not_fetched
from transforms.masking import mask_credentials

SCHEME = "kaggle://"
FORM = (
    "it must be kaggle://owner/model/framework/variation/version, "
    "such as kaggle://google/mobilenet-v2/tensorFlow2/100-224-classification/2"
)


def kaggle_model(handle: str, say: Callable[[str], None], check: Callable[[], None]) -> Path:
    """The folder of a Kaggle model in kagglehub's cache (KAGGLEHUB_CACHE), fetched if it is not there whole.

    Raises:
        UsageError: the handle has another form, or kagglehub is not installed.
        HublabelError: Kaggle does not give it.
    """
    name = handle.removeprefix(SCHEME).strip("/")
    parts = name.split("/")
    if len(parts) != 5 or any(part in ("", ".", "..") for part in parts) or not parts[-1].isdecimal():
        raise UsageError(f"model.handle: {handle!r} is not valid; {FORM}")
    if find_spec("kagglehub") is None:
        raise UsageError(
            "model.handle: kagglehub is not installed; kaggle:// needs an extra: pip install 'hublabel[kaggle]'"
        )
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    folder = hub_cache_folder() / hashlib.sha1(handle.encode()).hexdigest()  # for the lock: kagglehub has none
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"another process is fetching {handle}, waiting for it", say, check):
        path = _download(handle, name, force=False)
        if find_saved_model(path) is None:  # its marker says whole, and a cleaner has been there
            path = _download(handle, name, force=True)
    model = find_saved_model(path)
    if model is None:
        raise UsageError(f"model.handle: {handle} holds no SavedModel (no saved_model.pb); take one for tensorFlow2")
    return model


def _download(handle: str, name: str, force: bool) -> Path:
    import kagglehub
    import requests
    from kagglehub import exceptions

    try:
        return Path(kagglehub.model_download(name, force_download=force))
    except (
        requests.RequestException,
        OSError,
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise not_fetched(handle, mask_credentials(lines[0])) from None
