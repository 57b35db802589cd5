"""How a run reads its images: settings on their way from the config to the workers, and whole runs over the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.reading import check_readable, reader
from tests.http_server import ImageServer
from tests.object_store import BUCKET, ObjectStore
from tests.pictures import colour_of, picture_bytes
from tests.pipeline.running import Hublabel
from transforms import read
from transforms.read import HttpSettings, ReadBytes
from transforms.storage import open_object_storage

ALLOW = ("--set", "input.allow_private_hosts=true")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer().running() as running:
        running.answers = {f"/{number}.png": picture_bytes(colour_of(number)) for number in range(6)}
        yield running


def test_every_setting_reaches_the_reader(colour_config: Path) -> None:
    assert reader(load_config(colour_config)) == ReadBytes()
    http = HttpSettings("me", True, 1.0, 2.0, 3.0, 5, HttpSettings.backoff, 6, 7)
    overrides = ["input.user_agent=me", "input.allow_private_hosts=true", "run.timeout.read=3"]
    limits = {"connect_timeout": 1, "read_timeout": 2, "retries": 5, "max_redirects": 6, "per_host": 7}
    overrides += [f"input.http={json.dumps(limits)}", "runner.options={hdfs_host: h, hdfs_port: 1}"]
    found = reader(load_config(colour_config, overrides))
    assert found == ReadBytes(http, (("hdfs_host", "h"), ("hdfs_port", 1)))


def run_over(hublabel: Hublabel, uris: list[str], *arguments: str) -> dict[str, tuple[str, str | None]]:
    """Labels `uris`; their labels or error types."""
    listing = hublabel.output.parent / "uris.txt"
    listing.write_text("\n".join(uris) + "\n")
    said = hublabel.run("--set", f"input.path={listing}", *arguments)
    assert said.code == 0, said.err
    return {row["uri"]: (row["status"], row["label"] or row["error_type"]) for row in hublabel.rows()}


def test_a_run_over_http(hublabel: Hublabel, server: ImageServer) -> None:
    server.answers["/page.png"] = b"<!doctype html>"
    server.answers["/moved.png"] = lambda exchange: exchange.redirect("/1.png")
    names = ["0", "1", "2", "none", "page", "moved"]
    found = run_over(hublabel, [f"{server.url}/{name}.png" for name in names], *ALLOW, "--set", "input.user_agent=me")
    assert list(found.values()) == [
        ("ok", "red"), ("ok", "green"), ("ok", "blue"), ("failed", "http_404"), ("failed", "unsupported_format"),
        ("ok", "green"),
    ]  # fmt: skip
    assert {headers["User-Agent"] for _, headers in server.requests} == {"me"}


def test_private_hosts_are_refused_unless_allowed(hublabel: Hublabel, server: ImageServer) -> None:
    found = run_over(hublabel, [f"{server.url}/{number}.png" for number in range(6)])
    assert set(found.values()) == {("failed", "forbidden_address")}
    assert server.requests == []


@pytest.mark.parametrize("store", ["object_store", "google_store"])
def test_a_run_over_an_object_store(hublabel: Hublabel, store: str, request: pytest.FixtureRequest) -> None:
    server: ObjectStore = request.getfixturevalue(store)
    bucket = open_object_storage(f"{server.scheme}://{BUCKET}")
    for number in range(3):
        bucket.replace(f"photos/{number}.png", picture_bytes(colour_of(number)))
    uris = [f"{server.scheme}://{BUCKET}/photos/{name}.png" for name in ("0", "1", "2", "none")]
    found = run_over(hublabel, uris)
    assert list(found.values()) == [("ok", "red"), ("ok", "green"), ("ok", "blue"), ("failed", "not_found")]


def test_without_the_library_of_an_object_store_nothing_is_begun(
    hublabel: Hublabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_is_installed", lambda module: module != "boto3")
    (tmp_path / "uris.txt").write_text("a.png\ns3://bucket/b.png\n")
    said = hublabel.run("--set", f"input.path={tmp_path}/uris.txt")
    assert said.code == 2
    assert (
        "input.path: s3://bucket/b.png: s3:// needs an extra that is not installed: pip install 'hublabel[aws]'"
        in said.err
    )
    assert not hublabel.parts()


def test_schemes_that_are_unknown_are_for_the_rows_to_say() -> None:
    check_readable(["/a.jpg", "gopher://a/b", "https://a/b", "S3://a/b"])


def test_the_message_names_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_is_installed", lambda module: False)
    with pytest.raises(UsageError, match=r"input.path: hdfs://a/b: hdfs:// needs .* 'hublabel\[hadoop\]'"):
        check_readable(["/a.jpg", "hdfs://a/b"])
