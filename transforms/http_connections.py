"""urllib3's connections, made to connect to checked addresses only and to end when a fetch's time is up."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

from transforms.addresses import connect_to

IDLE_HOSTS = 32  # hosts whose connections are kept open


class _Clock(threading.local):
    """What this thread's fetch may still take; a connection belongs to one thread at a time."""

    end = float("inf")  # monotonic seconds
    read_timeout = 60.0


_clock = _Clock()


@contextmanager
def until(end: float, read_timeout: float) -> Iterator[None]:
    """No receive of this thread lasts longer than `read_timeout` seconds, or goes on after `end` (monotonic)."""
    _clock.end, _clock.read_timeout = end, read_timeout
    try:
        yield
    finally:
        del _clock.end, _clock.read_timeout


class _Bounded:
    """A socket that asks the clock before each receive: a server that sends a byte now and then is not waited for."""

    def recv_into(self, *arguments: Any) -> int:
        left = _clock.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self.settimeout(min(left, _clock.read_timeout))  # type: ignore[attr-defined]
        return super().recv_into(*arguments)  # type: ignore[misc]


class _Socket(_Bounded, socket.socket):
    pass


class _TlsSocket(_Bounded, ssl.SSLSocket):
    pass


class _Checked:
    """Overrides how a connection of urllib3 gets its socket."""

    allow_private: ClassVar[bool] = False

    def _new_conn(self: Any) -> socket.socket:
        try:
            timeout = 60.0 if self.timeout is None else float(self.timeout)
            connected = connect_to(self._dns_host, self.port, timeout, self.allow_private, _Socket)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        for option in self.socket_options or ():
            connected.setsockopt(*option)
        return connected


class _PlainConnection(_Checked, HTTPConnection):
    pass


class _TlsConnection(_Checked, HTTPSConnection):
    pass


class _AnyPlainConnection(_PlainConnection):
    allow_private = True


class _AnyTlsConnection(_TlsConnection):
    allow_private = True


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _AnyPlainPool(HTTPConnectionPool):
    ConnectionCls = _AnyPlainConnection


class _AnyTlsPool(HTTPSConnectionPool):
    ConnectionCls = _AnyTlsConnection


def connections(allow_private: bool, per_host: int) -> urllib3.PoolManager:
    """Connections to any host, kept open between requests; no proxies, no cookies, no stored passwords.

    Args:
        allow_private: whether hosts at private addresses may be connected to.
        per_host: connections to one host that are kept open.
    """
    context = create_urllib3_context()
    context.load_default_certs()
    context.sslsocket_class = _TlsSocket
    manager = urllib3.PoolManager(num_pools=IDLE_HOSTS, maxsize=per_host, ssl_context=context)
    manager.pool_classes_by_scheme = (
        {"http": _AnyPlainPool, "https": _AnyTlsPool} if allow_private else {"http": _PlainPool, "https": _TlsPool}
    )
    return manager
