"""The errors of a request, as verdicts.

The messages are stable and quote nothing of the request; they name a proxy that fails.
"""

import errno
import socket
import ssl
from dataclasses import replace

import aiohttp

from waitd.core.connections.egress import EgressRefused
from waitd.core.connections.proxies import noted_proxy, proxy_name, through_proxy
from waitd.core.local_trouble import (
    NETWORK_UNREACHABLE,
    NO_FREE_ADDRESS,
    local_trouble,
    local_verdict,
    suspect_verdict,
)
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing import (
    AnswerTooLarge,
    HeadTooLarge,
    Http2Only,
    InvalidHttp,
    ProxyFailed,
    find_address_refused,
    is_http2,
)
from waitd.outgoing.errors import HTTP2_ONLY, is_http2_only, possible_own_trouble

_REFUSED = Unreachable("connection_refused", "The connection was refused.")
_DNS = Unreachable("dns", "The host name could not be resolved.")
_TIMEOUT = Unreachable("timeout", "The connection timed out.")
_RESET = Unreachable("connection_reset", "The connection was reset.")
_DISCONNECTED = Unreachable("disconnected", "The server closed the connection without an answer.")
_TRUNCATED = Unreachable("truncated", "The body ended too early or could not be decoded.")
_BAD_ANSWER = Unreachable("bad_answer", "The answer was not valid HTTP.")
_HTTP2_ONLY = Unreachable("bad_answer", f"{HTTP2_ONLY.format('The server')}.")
_LARGE_HEAD = Unreachable(
    "bad_answer", "The head of the answer, or the number of its 1xx heads, is too large."
)
_TOO_LARGE = Unreachable(
    "too_large", "The answer has too many bytes besides its body or in redirects, or too many gzip members."
)
_NO_ROUTE = Unreachable("no_route", "The host cannot be reached.")
_BAD_URL = Unreachable("bad_url", "The URL cannot be requested.")

_NO_ROUTES = (NETWORK_UNREACHABLE, NO_FREE_ADDRESS)
_BY_NUMBER = {
    errno.ECONNREFUSED: _REFUSED,
    errno.ETIMEDOUT: _TIMEOUT,
    errno.ECONNRESET: _RESET,
    errno.EPIPE: _RESET,
    errno.EHOSTUNREACH: _NO_ROUTE,
}
#: What a proxy may be the cause of, which is not known.
_PERHAPS_OF_PROXY = frozenset({"bad_answer", "connection_reset", "disconnected", "timeout", "truncated"})
#: The first match counts; several of these types are OSErrors, too.
_BY_TYPE: tuple[tuple[type[Exception], Unreachable], ...] = (
    (aiohttp.ClientConnectorDNSError, _DNS),
    (socket.gaierror, _DNS),  # as drivers of databases raise it
    (aiohttp.ServerDisconnectedError, _DISCONNECTED),
    (AnswerTooLarge, _TOO_LARGE),
    (aiohttp.ClientPayloadError, _TRUNCATED),
    (aiohttp.ClientResponseError, _BAD_ANSWER),
    (HeadTooLarge, _LARGE_HEAD),
    (InvalidHttp, _BAD_ANSWER),
    (aiohttp.InvalidURL, _BAD_URL),
    (TimeoutError, _TIMEOUT),
    (ConnectionResetError, _RESET),
)


def classify_error(error: Exception, proxy: str | None = None) -> Unreachable:
    """Returns the verdict that an error amounts to.

    `proxy` is the URL of the proxy that the request went through, if the error has no note of it.
    """
    trouble = local_trouble(error)
    verdict = local_verdict(trouble) if trouble else _classify(error)
    name = noted_proxy(error) if proxy is None else proxy_name(proxy)
    if not name or verdict.reason not in _PERHAPS_OF_PROXY:
        return verdict
    return replace(verdict, message=through_proxy(verdict.message, name))


def _classify(error: Exception) -> Unreachable:
    if isinstance(error, ProxyFailed):
        return _proxy(error)
    if is_http2_only(error):
        return _HTTP2_ONLY
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _tls(error.certificate_error)
    refusal = error if isinstance(error, EgressRefused) else find_address_refused(error)
    if refusal is not None:
        return Unreachable("egress_refused", f"No request may go there: {refusal.why}.")
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return _tls(error)
    suspect = suspect_verdict(error)
    if suspect in _NO_ROUTES and possible_own_trouble(error) is None:  # only this network or family
        suspect = _NO_ROUTE
    by_type = (verdict for kind, verdict in _BY_TYPE if isinstance(error, kind))
    return suspect or next(by_type, None) or _by_number(error)


def _by_number(error: Exception) -> Unreachable:
    if not isinstance(error, OSError):
        return Unreachable("probe_error", f"The poke itself failed: {type(error).__name__}.")
    number = error.errno or 0
    name = errno.errorcode.get(number, "")
    return _BY_NUMBER.get(number) or Unreachable(
        "connection_failed", f"The connection failed. {name}".strip()
    )


def _proxy(error: ProxyFailed) -> Unreachable:
    suspect = possible_own_trouble(error)
    because = f" {suspect.message}" if suspect else ""  # `LocalTrouble.judge` reads the end
    return Unreachable("proxy", f"{error.why[:1].upper()}{error.why[1:]}.{because}")


def _tls(error: Exception) -> Unreachable:
    """Quotes OpenSSL's short reason, which names no host."""
    cause = getattr(error, "os_error", error)
    reason = (
        getattr(cause, "verify_message", "") or (getattr(cause, "reason", "") or "").replace("_", " ").lower()
    )
    return Unreachable("tls", f"TLS failed: {reason or 'no common ground'}.")


def _own_error(error: Exception) -> HeadTooLarge | ProxyFailed | None:
    """The error that was raised, here or in a callback of the parser, because of the head."""
    error = error.__context__ if isinstance(error.__context__, Exception) else error
    return error if isinstance(error, HeadTooLarge | ProxyFailed) else None


def parse_error(error: Exception, data: bytes) -> Exception:
    """The error of a response that cannot be parsed."""
    if local_trouble(error):  # a callback of the parser had no memory
        return MemoryError()
    return _own_error(error) or (Http2Only() if is_http2(data) else InvalidHttp(str(error)))


def connection_error(exc: Exception | None) -> Exception:
    """The error of a request whose connection was lost before the answer."""
    if exc is None:
        return aiohttp.ServerDisconnectedError()
    return (
        aiohttp.ClientOSError(*exc.args)
        if isinstance(exc, OSError)
        else aiohttp.ClientOSError(None, str(exc))
    )
