"""Which addresses are connected to: the real resolver and sockets, and names that lead elsewhere the next time."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http_server import ImageServer
from tests.transforms.test_read_http import failure, read
from transforms import addresses


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer().running() as running:
        yield running


def resolves(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Fake name service: each name's addresses in turn, the last one stays. Returns what was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        if host in names:
            left = names[host]
            host = left.pop(0) if len(left) > 1 else left[0]
        return real(host, port, *arguments, **options)

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lookup)
    return asked


def make_public(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda found: found == address or real(found))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
        "[::]", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "[fd00:ec2::254]", "[fe80::1]",
        "[64:ff9b::7f00:1]", "168.63.129.16", "224.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(server: ImageServer, host: str) -> None:
    server.answers = {"/a": b"secret"}
    for uri in (f"http://{host}:{server.port}/a", f"https://{host}:{server.port}/a"):
        kind, message = failure(uri, allow_private_hosts=False)
        assert kind == "forbidden_address", message
    assert "which is not a public address; input.allow_private_hosts would allow it" in message
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("2002:808:808::1", True), ("172.15.0.1", True), ("100.63.0.1", True), ("172.16.0.1", False),
        ("100.127.255.255", False), ("198.18.0.1", False), ("192.0.2.1", False), ("255.255.255.255", False),
        ("::ffff:10.0.0.1", False), ("2002:a00:1::1", False), ("64:ff9b:1::1", False), ("2001:0:1::1", False),
        ("::10.0.0.1", False), ("fc00::1", False), ("fec0::1", False), ("ff02::1", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert addresses.is_public(address) is public


def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, server: ImageServer) -> None:
    make_public(monkeypatch, "127.0.0.1")
    resolves(monkeypatch, {"photos.example.org": ["127.0.0.1"], "cdn.example.org": ["127.0.0.2"]})
    with ImageServer("127.0.0.2").running() as inside:
        inside.answers = {"/secret": b"secret"}
        server.answers = {
            "/good": b"12345",
            "/by-number": lambda e: e.redirect(f"{inside.url}/secret"),
            "/by-name": lambda e: e.redirect(f"http://cdn.example.org:{inside.port}/secret"),
        }
        base = f"http://photos.example.org:{server.port}"
        assert read(f"{base}/good", allow_private_hosts=False) == b"12345"
        for path in ("by-number", "by-name"):
            assert failure(f"{base}/{path}", allow_private_hosts=False)[0] == "forbidden_address"
        assert inside.requests == []
        assert read(f"{base}/by-name", allow_private_hosts=True) == b"secret"


def test_a_name_that_changes_its_address_is_checked_where_it_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: ImageServer
) -> None:
    make_public(monkeypatch, "127.0.0.1")
    asked = resolves(monkeypatch, {"rebinding.example.org": ["127.0.0.1", "127.0.0.2"]})
    with ImageServer("127.0.0.2", server.port).running() as inside:
        inside.answers = {"/a": b"secret"}
        server.answers = {"/a": lambda e: (e.answer(b"harmless"), e.hang_up())}
        uri = f"http://rebinding.example.org:{server.port}/a"
        assert read(uri, allow_private_hosts=False) == b"harmless"
        assert asked == ["rebinding.example.org"]
        assert failure(uri, allow_private_hosts=False)[0] == "forbidden_address"
        assert inside.requests == []


def test_of_several_addresses_the_public_ones_are_tried(monkeypatch: pytest.MonkeyPatch, server: ImageServer) -> None:
    make_public(monkeypatch, "127.0.0.1")
    server.answers = {"/a": b"1"}
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    both = [(*entry, ("127.0.0.2", server.port)), (*entry, ("127.0.0.1", server.port))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *arguments, **options: both)
    assert read(f"http://two.example.org:{server.port}/a", allow_private_hosts=False) == b"1"
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *arguments, **options: both[:1])
    assert failure(f"http://one.example.org:{server.port}/a", allow_private_hosts=False)[0] == "forbidden_address"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of photos.example.org, with its key."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "photos.example.org")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("photos.example.org")]), critical=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


def test_https_checks_the_certificate_of_the_name_behind_the_address(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    names: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda connection, name, context: names.append(name)
    resolves(monkeypatch, {"photos.example.org": ["127.0.0.1"], "other.example.org": ["127.0.0.1"]})
    with ImageServer(tls=tls).running() as server:
        server.answers = {"/a": b"12345", "/slow": lambda exchange: exchange.stall()}
        # per_host makes connections of their own, which trust what SSL_CERT_FILE names now
        assert read(f"https://photos.example.org:{server.port}/a", per_host=5) == b"12345"
        assert names == ["photos.example.org"]
        assert server.requests[0][1]["Host"] == f"photos.example.org:{server.port}"
        kind, message = failure(f"https://other.example.org:{server.port}/a", per_host=5)
        assert kind == "connection_error"
        assert message.startswith("the server's certificate cannot be trusted: ")
        assert failure(f"https://photos.example.org:{server.port}/slow", per_host=5, retries=0)[0] == "timeout"
        assert len(server.requests) == 2
