"""Sentences for requests that failed in transit.

An exception's own text may name addresses or quote the request, so only these sentences are shown.
"""

import errno
import socket
import ssl
from contextlib import closing, suppress

import aiohttp

from waitd.core.connections.proxies import noted_proxy
from waitd.core.local_trouble import NETWORK_UNREACHABLE, NO_FREE_ADDRESS, suspect_verdict
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing.lookups import has_any_route

#: The sentence about a server that speaks only HTTP/2.
HTTP2_ONLY = "{} speaks only HTTP/2 and waitd speaks HTTP/1.1: enable HTTP/1.1 on the server, or use a reverse proxy that translates"

#: The status by which a proxy refuses the credentials; other servers do not send it.
PROXY_REFUSES = 407


class AddressRefused(PermissionError):  # noqa: N818 - reads as a sentence
    """The egress rules forbid the address that a host resolved to; `why` says which rule.

    aiohttp wraps this error; `find_address_refused` unwraps it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)
        self.why = why


class InvalidHttp(aiohttp.ClientError):
    """The server sent something that is not an HTTP response."""


class Http2Only(InvalidHttp):
    """The server speaks only HTTP/2."""

    def __init__(self) -> None:
        super().__init__(HTTP2_ONLY.format("the server"))


class ProxyFailed(aiohttp.ClientConnectionError):
    """A proxy does not lead to the target; `why` names the proxy, without credentials.

    `os_error` is the error on the way to the proxy, if there is one.
    """

    def __init__(self, why: str, os_error: BaseException | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.os_error = os_error


class ClosedWhileIdle(aiohttp.ServerDisconnectedError):
    """The server closed a connection that had been used before, and did not answer the request."""


class HeadTooLarge(InvalidHttp):
    """The head of a response, or that of an interim response, exceeds a limit."""


class AnswerTooLarge(aiohttp.ClientPayloadError):
    """A response exceeds a limit besides those of its head and its decoded body."""


def find_address_refused(error: BaseException) -> AddressRefused | None:
    """The refusal of an address inside an aiohttp error, if there is one."""
    cause = getattr(error, "os_error", error)
    return cause if isinstance(cause, AddressRefused) else None


def possible_own_trouble(error: Exception) -> Unreachable | None:
    """The verdict on an error that may be the daemon's own trouble, see `LocalTrouble.judge`.

    It is the target's if the machine has a route to another network, or a free port: then it lacks
    the IPv6 that the target needs.
    """
    suspect = suspect_verdict(error)
    if suspect is NETWORK_UNREACHABLE and has_any_route():
        return None
    if suspect is NO_FREE_ADDRESS and has_free_port():
        return None
    return suspect


def has_free_port() -> bool:
    """Whether a local port is free for a connection."""
    with suppress(OSError), closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return True
    return False


def is_http2(start: bytes) -> bool:
    """Whether an answer starts with a SETTINGS or GOAWAY frame of HTTP/2."""
    return start[:2] == b"\0\0" and start[3:9] in {b"\4\0\0\0\0\0", b"\7\0\0\0\0\0"}


def is_http2_only(error: Exception) -> bool:
    """Whether an error says that the server speaks only HTTP/2."""
    cause = getattr(error, "os_error", error)
    return isinstance(error, Http2Only) or (
        isinstance(cause, ssl.SSLError) and _NO_COMMON_PROTOCOL in str(cause)
    )


def describe_error(error: Exception, service: str) -> str:
    """A sentence for an aiohttp or socket error; `service` names the peer, e.g. `the receiver`."""
    blocked = find_address_refused(error)
    if blocked is not None:
        return f"the egress rules block {service}: {blocked.why}"
    if isinstance(error, ProxyFailed):
        return error.why
    if is_http2_only(error):
        return HTTP2_ONLY.format(service)
    for types, sentence in _SENTENCES:
        if isinstance(error, types):
            return f"{sentence.format(service)}{_through(noted_proxy(error))}"
    return f"the request to {service} could not be sent"


def _through(proxy: str) -> str:
    return f"; the request goes through {proxy}" if proxy else ""


def describe_refusing_proxy(proxy: str, status: int) -> str:
    """A sentence for a proxy that answers a request itself; `proxy` is its name."""
    if status == PROXY_REFUSES:
        return f"the proxy {proxy} refuses the credentials, or needs some (407)"
    if status == 403:
        return f"the proxy {proxy} does not allow the target (403)"
    return f"the proxy {proxy} cannot reach the target ({status})"


#: OpenSSL's text when the server refuses every protocol that the client offers by ALPN; Python has
#: no name for it.
_NO_COMMON_PROTOCOL = "alert no application protocol"

#: The first match counts, so subclasses come first.
_SENTENCES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "the TLS certificate of {} is not trusted"),
    (aiohttp.ClientSSLError, "the TLS handshake with {} failed"),
    (aiohttp.ClientConnectorDNSError, "the host name of {} does not resolve"),
    (aiohttp.ClientConnectorError, "could not connect to {}"),
    (TimeoutError, "{} did not answer in time"),
    ((aiohttp.ClientConnectionError, OSError), "the connection to {} broke before it answered"),
    ((aiohttp.ClientResponseError, InvalidHttp), "{} did not answer with valid HTTP"),
    (AnswerTooLarge, "the answer of {} is too large"),
    (aiohttp.ClientPayloadError, "the answer of {} is incomplete or cannot be decoded"),
)
