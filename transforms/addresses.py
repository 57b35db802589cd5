"""Which network addresses a URI may lead to: an image list from elsewhere must not reach what only we can reach."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from transforms.errors import ImageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Socket = TypeVar("Socket", bound=socket.socket)

# An IPv4 address inside an IPv6 one: where its network begins, and how far its last bit is from the right.
_EMBEDDED = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped, RFC 4291
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
_REFUSED = (
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host, public by its number
    ipaddress.ip_network("64:ff9b:1::/48"),  # local NAT64, RFC 8215
    ipaddress.ip_network("2001::/32"),  # Teredo, RFC 4380
    ipaddress.ip_network("::/96"),  # IPv4-compatible, RFC 4291, deprecated
    ipaddress.ip_network("fec0::/10"),  # site-local, RFC 3879, deprecated
)


def is_public(address: str) -> bool:
    """Whether a numeric address (a zone may follow `%`) is of the public internet.

    Not public: private, loopback, link-local (clouds' metadata servers among them), shared (CGNAT), unique local,
    unspecified, multicast and reserved addresses, and IPv6 addresses that stand for such an IPv4 address.
    """
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        for network, shift in _EMBEDDED:
            if found in network:
                found = ipaddress.IPv4Address(int(found) >> shift & 0xFFFFFFFF)
                break
    if any(found.version == network.version and found in network for network in _REFUSED):
        return False
    return found.is_global and not found.is_multicast


def connect_to(
    host: str, port: int, timeout: float, allow_private: bool, make: Callable[[int, int, int], Socket]
) -> Socket:
    """Connect to the first address of `host` that answers.

    The name is resolved once, and what is connected to is an address that was checked, so that a name server cannot
    show one address to the check and another to the connection (DNS rebinding).

    Args:
        host: a name or a numeric address, IPv6 in brackets or without.
        timeout: seconds for all addresses together.
        allow_private: whether addresses that are not public will do.
        make: makes a socket of a family, type and protocol.

    Raises:
        ImageError: `forbidden_address`: none of the addresses is public; `bad_uri`.
        OSError: none answers; `socket.gaierror` when the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:  # of the codec for international names
        raise ImageError("read", "bad_uri", "not a valid URL: no host can have such a name") from None
    allowed = [entry for entry in found if allow_private or is_public(str(entry[4][0]))]
    if not allowed:
        raise ImageError(
            "read",
            "forbidden_address",
            f"{host} is at {found[0][4][0]}, which is not a public address; input.allow_private_hosts would allow it",
        )
    end = time.monotonic() + timeout
    failure: OSError = OSError("no address")
    for tried, (family, kind, protocol, _, address) in enumerate(allowed):
        connected = make(family, kind, protocol)
        try:
            connected.settimeout(max(0.001, (end - time.monotonic()) / (len(allowed) - tried)))
            connected.connect(address)
            return connected
        except OSError as error:
            failure = error
            connected.close()
    raise failure
