"""Checks over photos that are not ours to ship: run where the folder `shared` lies beside the checkout."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = CHECKOUT.parent / "shared" / "imagenet_sample"

collect_ignore_glob = [] if (SAMPLE / "truth.csv").exists() else ["test_*.py"]
