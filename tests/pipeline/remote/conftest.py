"""A Beam job service and a pool of worker processes, on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipeline.remote.services import JobService, job_service, worker_pool


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs jobs on the service."""
    for item in items:
        if {"service", "pool"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("remote")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """Beam's own job service, a process of its own."""
    with job_service(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of our worker pool, a process of its own; its workers have another working directory."""
    with worker_pool(tmp_path_factory.mktemp("pool")) as address:
        yield address
