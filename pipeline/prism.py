"""Where Prism's binary is: Beam would fetch it from GitHub, without a time-out."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apache_beam.version import __version__ as beam_version

from pipeline.errors import UsageError

CACHE = "~/.apache_beam/cache/prism/bin"  # Beam's own
GET_IT = (
    "get it with Go: `GOBIN=~/.apache_beam/cache/prism/bin go install github.com/apache/beam/sdks/v2/go/cmd/prism"
    f"@v{beam_version}`, or from https://github.com/apache/beam/releases/tag/v{beam_version} "
    "(apache_beam-v{version}-prism-<system>-<machine>.zip, unpacked) and name it in runner.options.prism_location"
).replace("{version}", beam_version)


def prism_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a PrismRunner, with the place of a binary that is on this machine.

    Raises:
        UsageError: there is none.
    """
    if options.get("job_endpoint"):  # a Prism that runs already
        return dict(options)
    place = options.get("prism_location")
    if place is not None:
        if not os.path.isfile(place):
            raise UsageError(f"runner.options.prism_location: {place!r} is not a file on this machine; {GET_IT}")
        return dict(options)
    found = shutil.which("prism") or next((path for path in _cached() if os.path.isfile(path)), None)
    if found is None:
        raise UsageError(f"runner.name: PrismRunner needs Prism, which is not on this machine; {GET_IT}")
    return {**options, "prism_location": found}


def _cached() -> list[str]:
    folder = Path(CACHE).expanduser()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    release = f"apache_beam-v{beam_version}-prism-{platform.system().lower()}-{machine}"
    return [os.fspath(folder / name) for name in (release, "prism")]
