"""A virtual environment for each peer, made from its pinned requirements: they cannot live in one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
STAMP = "made-of"  # holds a digest of what the environment was made of; absent as long as it is not whole


def environment(peer: str, folder: Path) -> Path:
    """The Python of the peer's environment below `folder`, which is made when it is not there or of other versions.

    Raises:
        subprocess.CalledProcessError: pip failed, and has said why.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    home, made_of = folder / peer, _digest(requirements)
    python, stamp = home / "bin" / "python", home / STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != made_of:
        print(f"making the environment {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        stamp.write_text(made_of, encoding="utf-8")
    return python


def version(peer: str, package: str) -> str:
    """The version of `package` that the peer's requirements name."""
    lines = (REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def _digest(requirements: Path) -> str:
    return hashlib.sha256(f"{sys.version_info[:2]} {requirements.read_text(encoding='utf-8')}".encode()).hexdigest()
