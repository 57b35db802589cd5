"""What can be said of the session without starting it."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deploy.flink.session import HERE, HOST, Ports, Session, SessionError


def test_the_cluster_and_the_job_server_are_of_one_version_of_flink() -> None:
    pom, requirements = (HERE / "pom.xml").read_text(), (HERE / "requirements.txt").read_text()
    (version,) = re.findall(r"<flink.version>(.*)</flink.version>", pom)
    (minor,) = re.findall(r"<flink.minor>(.*)</flink.minor>", pom)
    assert re.findall(r"^apache-flink-libraries==(\S+)", requirements, re.MULTILINE) == [version]
    assert version.startswith(f"{minor}.")


def test_the_example_for_kubernetes_is_configured_as_what_is_tested() -> None:
    tested = yaml.safe_load((HERE / "conf" / "config.yaml").read_text())
    (example,) = [
        yaml.safe_load(document["data"]["config.yaml"])
        for document in yaml.safe_load_all((HERE / "kubernetes.yaml").read_text())
        if document["kind"] == "ConfigMap"
    ]
    differing = {name for name, value in tested.items() if example.get(name) != value}
    assert differing == {"taskmanager.memory.process.size"}  # more, to be on the safe side


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SessionError, match=f"port {port}, for workers, cannot be had: Address already in use"):
            Session(tmp_path, ports=replace(Ports.free(), workers=port)).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_has_ended_is_told_even_if_another_process_answers(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session._parts = {}
    part = session._start("worker-pool", ["sh", "-c", "echo no port; exit 3"])
    part.wait()
    with pytest.raises(SessionError, match=r"^worker-pool ended with 3; the end of .*/worker-pool.log:\nno port\n$"):
        session._wait([part], lambda: True)
