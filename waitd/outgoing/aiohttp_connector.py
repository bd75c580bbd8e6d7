"""aiohttp's connector with bounded answers, resumed TLS sessions, few new connections in a turn
of the loop, a bound on idle connections, and errors that name the proxy.

It overrides undocumented methods of aiohttp; the tests send requests through them.
"""

import asyncio
import ssl
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from yarl import URL

from waitd.outgoing.answer_limits import BoundedResponseHandler
from waitd.outgoing.errors import InvalidHttp, ProxyFailed, describe_error, describe_refusing_proxy
from waitd.outgoing.opening import opening_turns
from waitd.outgoing.tls_sessions import PORT, TlsContexts

#: Seconds after which a session closes an idle connection; most servers close it earlier.
KEEP_SECONDS = 300.0
#: Whether the socket that is being made leads to a proxy.
TO_PROXY: ContextVar[bool] = ContextVar("TO_PROXY", default=False)
_NO_HTTP = (aiohttp.ClientResponseError, InvalidHttp)


class Connector(aiohttp.TCPConnector):
    """The connector of a session or of a pool of connections."""

    def __init__(self, tls: TlsContexts, *, max_idle: int, **options: Any) -> None:
        """Creates it in the running loop.

        Args:
            tls: the contexts where `ssl` is True or False.
            max_idle: the most origins of which idle connections are kept.
            options: those of `aiohttp.TCPConnector`; its `ssl` is for requests that have none.
        """
        if not options.get("force_close"):
            options.setdefault("keepalive_timeout", KEEP_SECONDS)
        super().__init__(**options)
        protocol: Any = partial(BoundedResponseHandler, loop=asyncio.get_running_loop())
        self._factory = protocol
        self._contexts = tls
        self._max_idle = max_idle
        self._openings = opening_turns()

    def _get_ssl_context(self, req: ClientRequest) -> ssl.SSLContext | None:
        if not req.is_ssl():
            return None
        tls = self._ssl if req.ssl is True else req.ssl
        if isinstance(tls, ssl.SSLContext):
            return self._contexts.adopt(tls)
        return self._contexts.get(verify=tls is True)

    async def _create_connection(self, req: ClientRequest, *options: Any) -> ResponseHandler:
        token = PORT.set(req.port)
        try:
            return await super()._create_connection(req, *options)
        finally:
            PORT.reset(token)

    async def _wrap_create_connection(
        self, *args: Any, **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Opens a connection to an address, in a turn that may open one more."""
        await self._openings.wait()
        return await super()._wrap_create_connection(*args, **options)

    def _update_proxy_auth_header_and_build_proxy_req(self, req: ClientRequest) -> ClientRequest:
        """Builds the request to a proxy, for which the certificates of the target do not hold."""
        to_proxy = super()._update_proxy_auth_header_and_build_proxy_req(req)
        if to_proxy.is_ssl():
            to_proxy._ssl = self._contexts.get(verify=True)  # noqa: SLF001 - aiohttp has one setting for both
        return to_proxy

    def _warn_about_tls_in_tls(self, *_: object) -> None:
        """Does not warn: TLS to a target within TLS to a proxy works since Python 3.11."""

    async def _create_proxy_connection(
        self, req: ClientRequest, *options: Any
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        """Opens a connection through a proxy.

        Raises:
            ProxyFailed: the proxy cannot be reached, or does not lead to the target.
            aiohttp.ClientError, OSError: the target, behind the proxy, fails.
        """
        try:
            return await super()._create_proxy_connection(req, *options)
        except aiohttp.ClientHttpProxyError as error:
            raise ProxyFailed(describe_refusing_proxy(_name(req.proxy), error.status)) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error, aiohttp.ClientSSLError):
                raise
            why = f"the connection to the target broke behind the proxy {_name(req.proxy)}"
            raise ProxyFailed(why, error.os_error) from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, *_NO_HTTP) as error:
            raise ProxyFailed(describe_error(error, f"the proxy {_name(req.proxy)}")) from None

    async def _create_direct_connection(
        self,
        req: ClientRequest,
        *options: Any,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        if client_error is not aiohttp.ClientProxyConnectionError:
            return await super()._create_direct_connection(req, *options, client_error=client_error)
        token = TO_PROXY.set(True)
        try:
            return await super()._create_direct_connection(req, *options, client_error=client_error)
        except (aiohttp.ClientConnectorError, OSError) as error:
            cause = getattr(error, "os_error", error)
            raise ProxyFailed(describe_error(error, f"the proxy {_name(req.url)}"), cause) from None
        finally:
            TO_PROXY.reset(token)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Keeps a connection; closes those of the origin that was least recently used."""
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, BoundedResponseHandler):
            protocol.start_idling()
        if key in self._conns:
            self._conns[key] = self._conns.pop(key)  # comes last
        if len(self._conns) > self._max_idle:
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.close()


def _name(proxy: URL | None) -> str:
    """How a message names a proxy: without its credentials."""
    return "" if proxy is None else str(proxy.origin())
