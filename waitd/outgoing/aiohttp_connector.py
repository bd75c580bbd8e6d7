"""aiohttp's connector with bounded answers, resumed TLS sessions, and a bound on idle connections.

It overrides undocumented methods of aiohttp; the tests send requests through them.
"""

import asyncio
import ssl
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey

from waitd.outgoing.answer_limits import BoundedResponseHandler
from waitd.outgoing.tls_sessions import PORT, TlsContexts

#: An idle connection of a session is dropped after so many seconds; most servers close it earlier.
KEEP_SECONDS = 300.0


class Connector(aiohttp.TCPConnector):
    """The connector of a session or of a pool of connections."""

    def __init__(self, tls: TlsContexts, *, max_idle: int, **options: Any) -> None:
        """Creates it in the running loop.

        Args:
            tls: the contexts for requests whose `ssl` is True or False.
            max_idle: the most origins of which idle connections are kept.
            options: those of `aiohttp.TCPConnector`.
        """
        if not options.get("force_close"):
            options.setdefault("keepalive_timeout", KEEP_SECONDS)
        super().__init__(**options)
        protocol: Any = partial(BoundedResponseHandler, loop=asyncio.get_running_loop())
        self._factory = protocol
        self._contexts = tls
        self._max_idle = max_idle

    def _get_ssl_context(self, req: ClientRequest) -> ssl.SSLContext | None:
        if not req.is_ssl():
            return None
        if isinstance(req.ssl, ssl.SSLContext):
            return self._contexts.adopt(req.ssl)
        return self._contexts.get(verify=req.ssl is True)

    async def _create_connection(self, req: ClientRequest, *options: Any) -> ResponseHandler:
        token = PORT.set(req.port)
        try:
            return await super()._create_connection(req, *options)
        finally:
            PORT.reset(token)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Keeps a connection; closes those of the origin that was least recently used."""
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, BoundedResponseHandler):
            protocol.start_idling()
        if len(self._conns) > self._max_idle:
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.close()
