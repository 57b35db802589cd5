"""How a run reads its images, and whether it can."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from transforms.read import EXTRAS, HttpSettings, ReadBytes, uri_scheme, why_unreadable


def reader(config: RunConfig) -> ReadBytes:
    """What reads the images of a run."""
    found = config.input
    http = HttpSettings(
        user_agent=found.user_agent,
        allow_private_hosts=found.allow_private_hosts,
        deadline=config.run.timeout.read,
        **found.http.model_dump(),
    )
    return ReadBytes(http, tuple(sorted(config.runner.options.items())))


def check_readable(uris: Iterable[str], key: str = "input.path") -> None:
    """See that the libraries for these URIs are installed, so that a run does not fail on each of its images.

    Args:
        uris: some of the plan's, such as the first of each shard.
        key: where they come from, for the message.

    Raises:
        UsageError: naming a URI and the extra that is missing.
    """
    for scheme, uri in {uri_scheme(uri): uri for uri in uris}.items():
        if scheme in EXTRAS and (why := why_unreadable(scheme)) is not None:
            raise UsageError(f"{key}: {uri}: {why}")
