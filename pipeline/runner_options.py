"""Which pipeline options there are: a mistyped one is an error, where Beam logs that it goes without it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.errors import UsageError


def check_known(given: Iterable[str], further: Iterable[str] = ()) -> None:
    """Refuse options that nobody reads.

    Args:
        given: names from the config.
        further: names that a job service knows besides those of Beam's Python part.

    Raises:
        UsageError: naming the first unknown one, and the nearest that is known.
    """
    known = {*PipelineOptions([]).get_all_options(), *further}
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UsageError(f"runner.options.{name}: Beam has no such pipeline option{hint}")
