"""pyarrow in the launcher, without pandas."""

from __future__ import annotations

import sys

from transforms.lean import without


def forgo_pandas() -> None:
    """Keep pyarrow from importing pandas.

    It looks for pandas when it makes its first array, to know a Series when it sees one: 0.4 s and 50 MB for what the
    launcher never uses. It looks once, and finds none; `to_pandas` imports it nevertheless.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    with without("pandas"):
        pa.array([])
