"""The commands `hublabel export ...`: SavedModels from published weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.errors import HublabelError, UsageError


def export_efficientnet_lite0_command(output: str, checkpoint: str | None) -> int:
    """Write EfficientNet-Lite0 as a SavedModel directory, unless it is there already."""
    if os.path.exists(os.path.join(output, "saved_model.pb")):
        print(f"{output} is there already")
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pipeline.models.efficientnet_lite0 import export_efficientnet_lite0
    from pipeline.models.torch_checkpoint import CheckpointError

    try:
        export_efficientnet_lite0(output, checkpoint)
    except CheckpointError as error:
        raise UsageError(f"checkpoint: {error}") from None
    except OSError as error:
        raise HublabelError(f"{output}: {error}") from None
    print(f"wrote {output}")
    return 0


def export_convmixer_command(
    output: str, checkpoint: str, variant: str | None, image_size: int, **hyperparameters: Any
) -> int:
    """Write a ConvMixer as a SavedModel directory, replacing an older SavedModel there.

    Args:
        hyperparameters: attributes of `Architecture`; None counts as not given.

    Raises:
        UsageError: a hyperparameter, the checkpoint or the output directory is not valid.
        HublabelError: the directory cannot be written.
    """
    needed = [name for name in ("dim", "depth", "kernel_size", "patch_size") if hyperparameters.get(name) is None]
    if needed and variant is None:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in needed)
        raise UsageError(f"export convmixer: without --variant, {options} must be given")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pipeline.models.convmixer import architecture, export_convmixer, trainable_parameters

    try:  # CheckpointError is a ValueError
        arch = architecture(variant, **hyperparameters)
        export_convmixer(checkpoint, output, arch, image_size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise HublabelError(f"{output}: {error}") from None
    size = sum(path.stat().st_size for path in Path(output).rglob("*") if path.is_file())
    print(
        f"wrote {output}: ConvMixer-{arch.dim}/{arch.depth}, {trainable_parameters(arch):,} trainable parameters, "
        f"{arch.classes:,} classes, {size / 1e6:,.1f} MB\n"
        "It sees pictures upright: with a config for the module on TensorFlow Hub, set image.transpose to false."
    )
    return 0
