"""The commands `hublabel export ...`: SavedModels from published weights."""

from __future__ import annotations

import os

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
