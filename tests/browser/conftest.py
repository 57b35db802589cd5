"""Tests in a real browser. Where there is none they are skipped, but never in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium, missing


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if (what := missing()) is not None:
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    browser = Chromium()
    try:
        yield browser
    finally:
        browser.quit()
