"""Why an image has no label: the one exception that becomes a failed row instead of ending a run."""

from __future__ import annotations

Stage = str  # "read" | "decode" | "model"


class ImageError(Exception):
    """One image cannot be labelled; its row says so and its neighbours go on.

    Args:
        stage: where it happened: `read` (bytes could not be had), `decode` (no picture in the bytes), `model`.
        type: a snake_case word that reports count by, such as `not_found` or `truncated`.
        message: a sentence for people, without a trailing dot.
    """

    def __init__(self, stage: Stage, type: str, message: str) -> None:
        super().__init__(stage, type, message)
        self.stage = stage
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"{self.stage}/{self.type}: {self.message}"
