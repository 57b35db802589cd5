"""A real Flink session cluster on this machine, and a set of pictures to label on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.mixed import mixed_set
from benchmarks.witness import Witness
from deploy.flink.session import JARS, Ports, Session
from tests.flink.labelling import IMAGES, ROOT, Pictures, label_directly

SLOW_DISK = 1.5  # seconds that opening an image takes, so that a job's end is some seconds after its first commit


@pytest.fixture(scope="session")
def jars() -> Path:
    """What `deploy/flink/fetch` gets; without Java and Maven a failure in CI, elsewhere no test."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{' and '.join(missing)} not on the PATH")
    subprocess.run([ROOT / "deploy/flink/fetch"], check=True, env={**os.environ, "HUBLABEL_PYTHON": sys.executable})
    return JARS


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Good and bad pictures, the quickstart's model, and the rows that the DirectRunner gives."""
    folder = tmp_path_factory.mktemp("flink")
    shutil.copytree(ROOT / "models/efficientnet-lite0", folder / "model")
    uris = mixed_set(folder / "watched" / "photos", IMAGES, seed=11)
    listing = folder / "list.txt"
    listing.write_text("\n".join(uris) + "\n")
    found = Pictures(folder, uris, listing, folder / "model", Witness(folder / "watched", folder / "log"))
    label_directly(found)
    return found


@pytest.fixture(scope="session")
def cluster(jars: Path, pictures: Pictures) -> Iterator[Session]:
    witness = Witness(pictures.witness.folder, pictures.witness.log, SLOW_DISK)
    folder = pictures.folder / "session"
    folder.mkdir()
    with Session(folder, jars, Ports.free(), environment=dict(witness.environment())) as session:
        yield session


@pytest.fixture
def session(cluster: Session) -> Session:
    """The cluster with both TaskManagers, whatever an earlier test has done to them."""
    cluster.complete()
    return cluster
