"""Versions of the software a run uses, read without importing it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from pipeline.errors import UsageError
from transforms.decode import decode_fingerprint

PACKAGES = ("hublabel", "apache-beam", "tensorflow", "tensorflow-hub", "tensorflow-io", "pyarrow", "numpy")


def pinned_libraries(engine: str = "tensorflow") -> dict[str, str]:
    """Libraries that decide pixels or scores: resuming with others would mix two kinds of labels in one output.

    Args:
        engine: `model.engine`.

    Raises:
        UsageError: the engine is not installed.
    """
    try:
        return {**decode_fingerprint(), "tensorflow": version("tensorflow"), engine: version(engine)}
    except PackageNotFoundError as error:
        raise UsageError(
            f"model.engine: {error.name} is not installed; pip install 'hublabel[{error.name}]', "
            "or use model.engine: tensorflow"
        ) from None


def versions() -> dict[str, str]:
    """What the report names: Python, the system, the packages."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found
