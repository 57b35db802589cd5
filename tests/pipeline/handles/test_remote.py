"""Handles elsewhere: URLs as TensorFlow Hub serves them, servers that fail, the shared cache, Kaggle, gs://."""

import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from urllib3 import HTTPResponse

from pipeline.console import Voice
from pipeline.handles import download as downloads
from pipeline.handles.download import archive_url
from pipeline.resolve import resolve_model
from tests.hub_server import Answer, HubServer, archive_bytes
from tests.pipeline.handles.checks import assert_same, files_of, key, refused

# --- as tensorflow_hub does it


def test_a_hub_handle_is_fetched_once(hub: HubServer, saved_model: Path, cache: Path) -> None:
    handle = hub.module("/someone/model/1", saved_model)
    found = resolve_model(handle)
    assert found == str(cache / key(handle))
    assert_same(found, saved_model)
    assert [path for path, _ in hub.asked] == ["/someone/model/1?tf-hub-format=compressed"]
    hub.files.clear()  # the link is dead
    assert resolve_model(handle) == found
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    "handle",
    ["https://tfhub.dev/a/b/1", "https://host/m?b=1&a=x%20y", "http://host:81/m?empty=&c=%C3%A9#part", "https://h"],
)
def test_the_url_is_the_one_tensorflow_hub_asks(handle: str) -> None:
    from tensorflow_hub.compressed_module_resolver import HttpCompressedFileResolver

    assert archive_url(handle) == HttpCompressedFileResolver()._append_compressed_format_query(handle)


def test_an_archive_by_its_url_is_asked_for_as_it_is(hub: HubServer, saved_model: Path) -> None:
    """A signed URL allows no other query."""
    hub.files["/models/m.tar.gz"] = Answer(archive_bytes(saved_model, "m"))
    found = resolve_model(f"{hub.url}/models/m.tar.gz?X-Amz-Signature=abc")
    assert_same(found, saved_model)
    assert [path for path, _ in hub.asked] == ["/models/m.tar.gz?X-Amz-Signature=abc"]


def test_the_cache_is_shared_with_tensorflow_hub(hub: HubServer, saved_model: Path, cache: Path) -> None:
    import tensorflow_hub

    ours, theirs = hub.module("/a/ours/1", saved_model), hub.module("/a/theirs/1", saved_model)
    found = resolve_model(ours)
    assert tensorflow_hub.resolve(theirs) == str(cache / key(theirs))
    assert len(hub.asked) == 2
    assert tensorflow_hub.resolve(ours) == found
    assert resolve_model(theirs) == str(cache / key(theirs))
    assert len(hub.asked) == 2


def test_without_tfhub_cache_dir_the_cache_is_the_users(
    hub: HubServer, saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    handle = hub.module("/a/b/1", saved_model)
    assert resolve_model(handle) == str(tmp_path / "xdg" / "hublabel" / "models" / key(handle))


def test_a_cache_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://bucket/cache")
    said = refused("https://tfhub.dev/a/b/1")
    assert said == "TFHUB_CACHE_DIR: 'gs://bucket/cache' is not valid; it must be a local folder"


# --- the cache's accidents


@pytest.mark.parametrize("by", ["us", "tensorflow_hub"])
def test_an_emptied_folder_is_fetched_again(hub: HubServer, saved_model: Path, cache: Path, by: str) -> None:
    handle = hub.module("/a/b/1", saved_model)
    if by == "us":
        resolve_model(handle)
    else:
        import tensorflow_hub

        tensorflow_hub.resolve(handle)
    for path in files_of(cache / key(handle)):
        (cache / key(handle) / path).unlink()
    assert_same(resolve_model(handle), saved_model)
    assert len(hub.asked) == 2


def test_locks_of_killed_processes_cost_nothing(hub: HubServer, saved_model: Path, cache: Path) -> None:
    """tensorflow_hub's own lock file, which it would wait ten minutes for, and ours, which nobody holds."""
    handle = hub.module("/a/b/1", saved_model)
    cache.mkdir()
    (cache / f"{key(handle)}.lock").write_text("host.1.abc")
    program = (
        "import sys, os; from pathlib import Path; from pipeline.handles.cache import locked;"
        "hold = locked(Path(sys.argv[1]), '', print, lambda: None); hold.__enter__();"
        "print('held', flush=True); os.read(0, 1)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(cache / key(handle))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        said: list[str] = []

        def kill_it() -> None:
            holder.kill()

        console = Voice(file=io.StringIO(), width=200)
        assert_same(resolve_model(handle, None, console, kill_it), saved_model)
        said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == f"another process is fetching {handle}, waiting for it"
    assert len(hub.asked) == 1


def test_two_at_once_fetch_once_and_both_have_it(hub: HubServer, saved_model: Path) -> None:
    handle = hub.module("/a/b/1", saved_model)
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(resolve_model(handle)))
    hub.before = lambda: second.start() if not second.is_alive() else None  # while the first one is fetching
    found.append(resolve_model(handle))
    second.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert_same(found[0], saved_model)
    assert len(hub.asked) == 1


def test_both_have_it_where_there_are_no_locks(
    hub: HubServer, saved_model: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    handle = hub.module("/a/b/1", saved_model)
    found: list[str] = []

    def other() -> None:
        hub.before = lambda: None
        found.append(resolve_model(handle))

    hub.before = other
    found.append(resolve_model(handle))
    assert found == [str(cache / key(handle))] * 2
    assert_same(found[0], saved_model)


# --- the digest


def test_the_digest_of_what_is_fetched_is_checked(hub: HubServer, saved_model: Path, cache: Path) -> None:
    handle = hub.module("/a/b/1", saved_model)
    digest = hashlib.sha256(hub.files["/a/b/1"].body).hexdigest()
    assert refused(handle, "0" * 64) == (
        f"model.sha256: {handle} has the digest {digest}, not {'0' * 64}: it is another archive, or damaged"
    )
    assert not (cache / key(handle)).exists()
    assert_same(resolve_model(handle, digest), saved_model)
    asked = len(hub.asked)
    resolve_model(handle, digest)
    resolve_model(handle)
    assert len(hub.asked) == asked


def test_what_is_cached_with_another_digest_is_fetched_again(hub: HubServer, saved_model: Path) -> None:
    handle = hub.module("/a/b/1", saved_model)
    found = resolve_model(handle)
    (saved_model / "saved_model.pb").write_bytes(b"published anew")
    hub.module("/a/b/1", saved_model)
    new = hashlib.sha256(hub.files["/a/b/1"].body).hexdigest()
    assert_same(resolve_model(handle, new), saved_model)
    assert "has the digest" in refused(handle, "0" * 64)
    assert_same(found, saved_model)  # a refused one replaces nothing


# --- servers and networks


def test_a_broken_connection_is_taken_up_where_it_stopped(hub: HubServer, saved_model: Path) -> None:
    handle = hub.module("/a/b/1", saved_model)
    body = hub.files["/a/b/1"].body
    hub.first = [Answer(body, headers={"ETag": '"1"'}, cut=100_000), Answer(b"", 503)]
    console = Voice(file=io.StringIO(), width=200)
    assert_same(resolve_model(handle, None, console), saved_model)
    assert [headers.get("range") for _, headers in hub.asked] == [None, "bytes=100000-", "bytes=100000-"]
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == f"fetching {handle}"
    assert said[1] == (
        f"Connection broken: IncompleteRead(100000 bytes read, {len(body) - 100_000} more expected); "
        "attempt 2 of 5 in 0 s"
    )
    assert said[2] == "the server answers 503 Service Unavailable; attempt 3 of 5 in 0 s"
    assert said[3].startswith("fetched 0.2 MB in ")


@pytest.mark.parametrize("headers", [{"ETag": '"2"'}, {"ETag": 'W/"1"'}, {}])
def test_another_version_is_fetched_from_its_start(hub: HubServer, saved_model: Path, headers: dict[str, str]) -> None:
    handle = hub.module("/a/b/1", saved_model)
    hub.first = [Answer(os.urandom(300_000), headers=headers, cut=100_000)]
    assert_same(resolve_model(handle), saved_model)
    assert len(hub.asked) == 2


@pytest.mark.parametrize(
    ("answer", "reason", "asked"),
    [
        (Answer(b"", 401), "the server answers 401 Unauthorized, it wants a user and password", 1),
        (Answer(b"", 403), "the server answers 403 Forbidden, it refuses access", 1),
        (Answer(b"", 404), "the server answers 404 Not Found, there is no such file", 1),
        (Answer(b"", 410), "the server answers 410 Gone, the file is gone", 1),
        (Answer(b"", 418), "the server answers 418 I'm a Teapot", 1),
        (Answer(b"", 429), "the server answers 429 Too Many Requests (5 attempts)", 5),
        (Answer(b"", 500), "the server answers 500 Internal Server Error (5 attempts)", 5),
        (Answer(b"<html>", headers={"Content-Type": "text/html"}), "a web page came instead of a tar archive", 1),
        (Answer(b"something else"), "what came is no whole tar archive", 1),
        (Answer(b"", 302, {"Location": "/a/b/1"}), "it redirects more than 10 times", 11),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else None,
)
def test_a_refusal_is_one_message_that_says_what_to_do(
    hub: HubServer, cache: Path, answer: Answer, reason: str, asked: int
) -> None:
    hub.first = [answer] * 11
    handle = f"{hub.url}/a/b/1"
    assert refused(handle) == (
        f"model.handle: {handle} could not be fetched: {reason}; if the link is dead, "
        "set model.handle to a local copy: a SavedModel directory or a .tar.gz of one"
    )
    assert len(hub.asked) == asked
    assert not (cache / key(handle)).exists()
    assert list(cache.glob("*.part")) + list(cache.glob(".*.part")) == []


def test_for_convmixer_the_message_names_the_export(hub: HubServer) -> None:
    for name, variant in (("convmixer-1024-20/1", "1024-20"), ("ConvMixer_768_32.tar.gz", "768-32")):
        handle = f"{hub.url}/rishit-dagli/{name}"
        assert refused(handle) == (
            f"model.handle: {handle} could not be fetched: the server answers 404 Not Found, there is no such file; "
            "if the link is dead, make the model from its authors' checkpoint with "
            f"`hublabel export convmixer --variant {variant} --checkpoint FILE --output DIR`, set model.handle to DIR "
            "and image.transpose to false (the module on the Hub sees height and width swapped, the export does not), "
            "or set model.handle to a local copy: a SavedModel directory or a .tar.gz of one"
        )


def test_nobody_there(unused_tcp_port: int) -> None:
    said = refused(f"http://127.0.0.1:{unused_tcp_port}/m/1")
    assert "could not be fetched: Failed to establish a new connection: [Errno 111] Connection refused (5 att" in said


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_silent_server_is_given_up(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3.util import Timeout

    monkeypatch.setattr(downloads, "TIMEOUT", Timeout(connect=10, read=0.05))
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    answer = threading.Event()
    hub.before = lambda: answer.wait(10) and None
    try:
        assert "Read timed out. (read timeout=0.05) (2 attempts)" in refused(f"{hub.url}/a/b/1")
    finally:
        answer.set()


def test_a_server_may_ask_to_wait(hub: HubServer, saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads, "_sleep", lambda seconds, check: waits.append(seconds))
    monkeypatch.setattr(downloads, "PAUSE", 1.0)
    handle = hub.module("/a/b/1", saved_model)
    hub.first = [
        Answer(b"", 503), Answer(b"", 503), Answer(b"", 429, {"Retry-After": "7"}),
        Answer(b"", 429, {"Retry-After": "86400"}),
    ]  # fmt: skip
    assert_same(resolve_model(handle), saved_model)
    assert waits == [1.0, 2.0, 7.0, 60.0]


def test_redirects_are_followed(hub: HubServer, saved_model: Path) -> None:
    hub.files["/storage/m.tar.gz"] = Answer(archive_bytes(saved_model))
    hub.first = [Answer(b"", 307, {"Location": "/storage/m.tar.gz?token=1"})]
    assert_same(resolve_model(f"{hub.url}/a/b/1"), saved_model)
    assert [path for path, _ in hub.asked] == ["/a/b/1?tf-hub-format=compressed", "/storage/m.tar.gz?token=1"]


def test_a_redirect_from_https_to_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else anyone on the way could hand us another program; no TLS server is needed to see it."""

    class Pool:
        def request(self, method: str, url: str, **_: object) -> HTTPResponse:
            assert (method, url) == ("GET", "https://tfhub.dev/a/b/1?tf-hub-format=compressed")
            return HTTPResponse(status=302, headers={"Location": "http://tfhub.dev/a.tar.gz"})

    monkeypatch.setattr(downloads, "_pool", lambda scheme, host: Pool())
    said = refused("https://tfhub.dev/a/b/1")
    assert "it redirects from https to a connection that anyone on the way can change; if the link is dead" in said


def test_credentials_go_to_the_server_and_nowhere_else(hub: HubServer, saved_model: Path, cache: Path) -> None:
    hub.module("/a/b/1", saved_model)
    handle = hub.url.replace("://", "://ann:p%40ss@") + "/a/b/1?token=secret7"
    console = Voice(file=io.StringIO(), width=200)
    resolve_model(handle, None, console)
    assert hub.asked[0][1]["authorization"] == "Basic YW5uOnBAc3M="
    hub.files.clear()
    said = console.file.getvalue() + refused(handle.replace("/a/", "/b/"))  # type: ignore[attr-defined]
    said += "".join(path.read_text() for path in cache.iterdir() if path.is_file())
    assert "fetching http://***@127.0.0.1" in said
    assert "p%40ss" not in said
    assert "secret7" not in said


def test_the_environments_proxy_is_used(hub: HubServer, saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.url.replace("://", "://me:pw@"))
    monkeypatch.setenv("no_proxy", "")
    hub.files["http://models.invalid/m.tar.gz"] = hub.files["/m.tar.gz"] = Answer(archive_bytes(saved_model))
    assert_same(resolve_model("http://models.invalid/m.tar.gz"), saved_model)
    path, headers = hub.asked[0]
    assert path == "http://models.invalid/m.tar.gz"
    assert headers["proxy-authorization"] == "Basic bWU6cHc="


def test_a_check_that_raises_ends_a_download(hub: HubServer, saved_model: Path, cache: Path) -> None:
    class Ended(Exception):
        pass

    def check() -> None:
        raise Ended

    handle = hub.module("/a/b/1", saved_model)
    with pytest.raises(Ended):
        resolve_model(handle, check=check)
    assert list(cache.glob(".*.part")) == []
    assert_same(resolve_model(handle), saved_model)


def test_on_a_terminal_there_is_a_bar(hub: HubServer, saved_model: Path) -> None:
    console = Voice(file=io.StringIO(), width=100, force_terminal=True)
    resolve_model(hub.module("/a/b/1", saved_model), None, console)
    assert "━" in console.file.getvalue()  # type: ignore[attr-defined]
