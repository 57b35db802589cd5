"""`pipeline.child` with a decoder that dies of marked images."""

from __future__ import annotations

import os
import sys
from functools import partial

from pipeline import child, graph
from tests.crashing import deadly_open_picture

graph.DecodeImages = partial(graph.DecodeImages, decode=deadly_open_picture)  # type: ignore[misc,assignment]
graph.IsolatedWork = partial(graph.IsolatedWork, decode=deadly_open_picture)  # type: ignore[misc,assignment]

if __name__ == "__main__":
    os._exit(child.main(sys.argv[1:]))
