"""Reading over HTTP: a real server on loopback that stalls, lies, resets, and redirects in circles."""

from __future__ import annotations

import email.utils
import gzip
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.http_server import Exchange, ImageServer
from transforms.errors import ImageError
from transforms.read import HttpSettings, ReadBytes
from transforms.read_http import read_http

QUICK = HttpSettings(
    allow_private_hosts=True, connect_timeout=5, read_timeout=0.3, deadline=10, retries=2, backoff=0.01
)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer().running() as running:
        yield running


def read(uri: str, max_bytes: int = 1000, **changes: Any) -> bytes:
    return read_http(uri, max_bytes, replace(QUICK, **changes))


def failure(uri: str, max_bytes: int = 1000, **changes: Any) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        read(uri, max_bytes, **changes)
    assert caught.value.stage == "read"
    return caught.value.type, caught.value.message


def paths(server: ImageServer) -> list[str]:
    return [path for path, _ in server.requests]


def test_reads_a_body_and_says_who_asks(server: ImageServer) -> None:
    server.answers = {"/a.jpg": b"12345", "/empty": b""}
    assert read(f"{server.url}/a.jpg?size=1#top", 5, user_agent="research of Example e.V.") == b"12345"
    assert read(f"{server.url}/empty") == b""
    assert paths(server) == ["/a.jpg?size=1", "/empty"]
    headers = server.requests[0][1]
    assert headers["User-Agent"] == "research of Example e.V."
    assert headers["Host"] == server.url.removeprefix("http://")
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Referer"} & set(headers)


def test_what_must_be_escaped_is_escaped_and_what_is_escaped_stays(server: ImageServer) -> None:
    server.answers = {"/caf%C3%A9%20a%2Fb.jpg": b"1"}
    assert read(f"{server.url}/café a%2Fb.jpg") == b"1"


def test_proxies_and_stored_passwords_of_the_machine_are_not_used(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.answers = {"/a": b"1"}
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert read(f"{server.url}/a") == b"1"
    assert "Authorization" not in server.requests[0][1]


def test_passwords_go_to_their_own_host_alone(server: ImageServer) -> None:
    with ImageServer().running() as other:
        server.answers = {"/a": lambda exchange: exchange.redirect(f"{other.url}/b")}
        other.answers = {"/b": b"1"}
        assert read(server.url.replace("://", "://me:p%40ss@") + "/a") == b"1"
        assert server.requests[0][1]["Authorization"] == "Basic bWU6cEBzcw=="
        assert "Authorization" not in other.requests[0][1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 206, 304])
def test_answers_that_are_final_are_not_asked_for_again(server: ImageServer, status: int) -> None:
    server.answers = {"/a": lambda exchange: exchange.answer(b"", status)}
    kind, message = failure(f"{server.url}/a")
    assert kind == f"http_{status}"
    assert message.startswith(f"the server answered {status} ")
    assert len(server.requests) == 1


def test_a_404_says_so(server: ImageServer) -> None:
    assert failure(f"{server.url}/none") == ("http_404", "the server answered 404 Not Found")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_answers_that_may_change_are_asked_for_again(server: ImageServer, status: int) -> None:
    busy = lambda exchange: exchange.answer(b"busy", status)  # noqa: E731
    server.answers = {"/a": server.in_turn(busy, busy, b"12345"), "/b": busy}
    assert read(f"{server.url}/a") == b"12345"
    assert failure(f"{server.url}/b")[0] == f"http_{status}"
    assert paths(server) == ["/a"] * 3 + ["/b"] * 3


def test_pauses_grow_and_vary(server: ImageServer) -> None:
    server.answers = {"/a": lambda exchange: exchange.answer(b"", 500)}
    pauses: list[float] = []
    with pytest.raises(ImageError):
        read_http(f"{server.url}/a", 10, replace(QUICK, retries=6, backoff=0.1), pauses.append)
    assert len(pauses) == 6
    for number, pause in enumerate(pauses):
        assert 0.05 * 2**number <= pause <= 0.1 * 2**number
    assert len({pause / 2**number for number, pause in enumerate(pauses)}) == 6


@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(server: ImageServer, status: int, as_date: bool) -> None:
    after = email.utils.formatdate(time.time() + 8, usegmt=True) if as_date else "7"
    server.answers = {"/a": server.in_turn(lambda e: e.answer(b"", status, Retry_After=after), b"1")}
    pauses: list[float] = []
    assert read_http(f"{server.url}/a", 10, QUICK, pauses.append) == b"1"
    assert len(pauses) == 1
    assert 6 < pauses[0] <= 8


def test_retry_after_beyond_the_deadline_is_not_waited_for(server: ImageServer) -> None:
    server.answers = {"/a": lambda exchange: exchange.answer(b"", 429, Retry_After="3600")}
    assert failure(f"{server.url}/a") == (
        "http_429",
        "the server answered 429 Too Many Requests, to be asked again in 3,600 seconds",
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "Wed, 99 Foo", "1e9"])
def test_a_retry_after_that_says_nothing_is_ignored(server: ImageServer, value: str) -> None:
    server.answers = {"/a": server.in_turn(lambda e: e.answer(b"", 429, Retry_After=value), b"1")}
    assert read(f"{server.url}/a") == b"1"


def test_a_server_that_stalls(server: ImageServer) -> None:
    def halfway(exchange: Exchange) -> None:
        exchange.answer(b"12", length=5)
        exchange.stall()

    server.answers = {"/a": lambda exchange: exchange.stall(), "/b": halfway}
    assert failure(f"{server.url}/a", retries=1) == ("timeout", "no answer within 0.3 seconds")
    assert failure(f"{server.url}/b", retries=1) == ("timeout", "nothing more within 0.3 seconds, after 2 bytes")
    assert paths(server) == ["/a", "/a", "/b", "/b"]


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server: ImageServer, part: str) -> None:
    def drip(exchange: Exchange) -> None:
        if part == "body":
            exchange.answer(length=500)
        else:
            exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-")
        while not exchange.server.owner.over.wait(0.05):
            exchange.wfile.write(b"x")

    server.answers = {"/a": drip}
    began = time.monotonic()
    assert failure(f"{server.url}/a", deadline=0.6, read_timeout=5) == ("timeout", "gave up after 0.6 seconds")
    assert time.monotonic() - began < 3


def test_a_connection_that_is_reset(server: ImageServer) -> None:
    def halfway(exchange: Exchange) -> None:
        exchange.answer(b"12", length=5)
        exchange.reset()

    server.answers = {"/a": lambda exchange: exchange.reset(), "/b": halfway}
    server.answers["/c"] = server.in_turn(server.answers["/a"], server.answers["/b"], b"12345")
    kind, message = failure(f"{server.url}/a")
    assert kind == "connection_error"
    assert message.startswith("the connection failed: ")
    assert failure(f"{server.url}/b")[0] == "incomplete_read"
    assert read(f"{server.url}/c") == b"12345"


def test_a_body_shorter_than_its_length_is_not_taken(server: ImageServer) -> None:
    def short(exchange: Exchange) -> None:
        exchange.answer(b"123", length=5)
        exchange.hang_up()

    server.answers = {"/a": short}
    assert failure(f"{server.url}/a") == ("incomplete_read", "the connection broke after 3 of 5 bytes")
    assert len(server.requests) == 3


def test_a_body_longer_than_its_length_does_not_reach_the_next_image(server: ImageServer) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    server.answers = {"/a": lambda exchange: exchange.answer(b"123" + forged, length=3), "/b": b"truth"}
    for _ in range(5):
        assert read(f"{server.url}/a") == b"123"
        assert read(f"{server.url}/b") == b"truth"


def test_a_chunked_body(server: ImageServer) -> None:
    def chunked(exchange: Exchange, *, whole: bool) -> None:
        exchange.send_response(200)
        exchange.send_header("Transfer-Encoding", "chunked")
        exchange.end_headers()
        exchange.wfile.write(b"3\r\n123\r\n2\r\n45\r\n" + (b"0\r\n\r\n" if whole else b""))
        if not whole:
            exchange.hang_up()

    server.answers = {"/a": lambda e: chunked(e, whole=True), "/b": lambda e: chunked(e, whole=False)}
    assert read(f"{server.url}/a") == b"12345"
    assert failure(f"{server.url}/b")[0] == "incomplete_read"
    assert failure(f"{server.url}/a", 4) == ("too_large", "more than 4 bytes; image.max_bytes is 4")


def test_a_body_that_is_too_large_or_endless(server: ImageServer) -> None:
    sent = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.end_headers()
        try:
            while not exchange.server.owner.over.is_set():
                exchange.wfile.write(b"x" * 10_000)
        except OSError:
            sent.set()

    server.answers = {"/a": b"123456", "/b": endless, "/c": lambda e: e.answer(b"", length=10**15)}
    assert failure(f"{server.url}/a", 5) == ("too_large", "6 bytes; image.max_bytes is 5")
    assert failure(f"{server.url}/b", 100_000) == ("too_large", "more than 100,000 bytes; image.max_bytes is 100,000")
    assert sent.wait(10)
    assert failure(f"{server.url}/c")[0] == "too_large"
    assert len(server.requests) == 3


def test_compression_that_nobody_asked_for(server: ImageServer) -> None:
    packed = gzip.compress(b"0" * 900)
    server.answers = {
        "/a": lambda e: e.answer(packed, Content_Encoding="gzip"),
        "/b": lambda e: e.answer(packed[:-9], Content_Encoding="gzip"),
        "/c": lambda e: e.answer(b"junk", Content_Encoding="gzip"),
        "/d": lambda e: e.answer(b"?", Content_Encoding="br"),
    }
    assert read(f"{server.url}/a") == b"0" * 900
    assert failure(f"{server.url}/a", 899)[0] == "too_large"
    assert failure(f"{server.url}/b")[0] == "incomplete_read"
    assert failure(f"{server.url}/c") == ("bad_response", "the server sent damaged gzip data")
    assert failure(f"{server.url}/d") == ("bad_response", "the server sent the content encoding 'br'")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: ImageServer, status: int) -> None:
    server.answers = {
        "/a": lambda e: e.redirect("/b?x=1", status),
        "/b": lambda e: e.redirect(f"//{server.url.removeprefix('http://')}/c", status),
        "/c": b"12345",
    }
    assert read(f"{server.url}/a") == b"12345"
    assert paths(server) == ["/a", "/b?x=1", "/c"]


def test_redirects_in_circles_and_without_end(server: ImageServer) -> None:
    def further(exchange: Exchange) -> None:
        exchange.redirect(f"/n?{len(server.requests)}")

    server.answers = {
        "/a": lambda e: e.redirect("/b"),
        "/b": lambda e: e.redirect("/a"),
        "/n": further,
        "/ftp": lambda e: e.redirect("ftp://example.org/a"),
        "/file": lambda e: e.redirect("file:///etc/passwd"),
        "/none": lambda e: e.answer(b"", 302),
    }
    assert failure(f"{server.url}/a") == ("too_many_redirects", "the server redirects in a circle")
    assert len(server.requests) == 2
    assert failure(f"{server.url}/n", max_redirects=3) == ("too_many_redirects", "more than 3 redirects")
    assert len(server.requests) == 2 + 4
    assert failure(f"{server.url}/a", max_redirects=0) == ("too_many_redirects", "more than 0 redirects")
    assert failure(f"{server.url}/ftp") == ("unsupported_scheme", "the server redirects to a ftp:// URI")
    assert failure(f"{server.url}/file")[0] == "unsupported_scheme"
    assert failure(f"{server.url}/none")[0] == "http_302"


def test_what_is_no_url() -> None:
    assert failure("http://")[0] == "bad_uri"
    assert failure("http://[::1/a")[0] == "bad_uri"
    assert failure("http://host:port/a")[0] == "bad_uri"
    assert failure("http://127.0.0.1:99999/a")[0] == "bad_uri"
    assert failure("http://" + "a" * 64 + ".example/")[0] == "bad_uri"


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kind, message = failure(f"http://127.0.0.1:{closed.getsockname()[1]}/a", retries=0)
    assert (kind, message) == ("connection_error", "the connection failed: connection refused")
    assert failure("http://nobody.invalid/a", retries=0)[0] == "connection_error"


def test_a_host_is_asked_so_many_things_at_a_time(server: ImageServer) -> None:
    gate, most, now = threading.Barrier(3), 0, 0

    def answer(exchange: Exchange) -> None:
        nonlocal most, now
        with server.guard:
            now += 1
            most = max(most, now)
        gate.wait(10)
        with server.guard:
            now -= 1
        exchange.answer(b"1")

    server.answers = {"/a": answer}
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: read(f"{server.url}/a?{n}", per_host=3, read_timeout=10), range(12)))
    assert found == [b"1"] * 12
    assert most == 3


def test_connections_are_kept_open(server: ImageServer) -> None:
    peers: set[Any] = set()

    def answer(exchange: Exchange) -> None:
        peers.add(exchange.client_address)
        exchange.answer(b"1" if "good" in exchange.path else b"<html>", 200 if "good" in exchange.path else 404)

    server.answers = {"/good": answer, "/bad": answer}
    for _ in range(4):
        assert read(f"{server.url}/good") == b"1"
        assert failure(f"{server.url}/bad")[0] == "http_404"
    assert len(peers) == 1


def test_settings_reach_the_workers_through_a_pickle(server: ImageServer) -> None:
    server.answers = {"/a": b"1"}
    reader = pickle.loads(pickle.dumps(ReadBytes(http=QUICK)))
    assert reader(f"{server.url}/a", 10) == b"1"
    with pytest.raises(ImageError, match="forbidden_address"):
        ReadBytes()(f"{server.url}/a", 10)
