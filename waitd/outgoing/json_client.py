"""A client for small JSON requests to services that the operator configures."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Self

import aiohttp
import orjson
from yarl import URL

from waitd import __version__, exact_json
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, note_proxy, proxy_name
from waitd.outgoing.answer_limits import READ_AHEAD, repeat_if_closed
from waitd.outgoing.bodies import read_body
from waitd.outgoing.connector import EgressGuard
from waitd.outgoing.errors import PROXY_REFUSES, ProxyFailed, describe_error, describe_refusing_proxy


class JsonResponse(NamedTuple):
    """A response; `body` is its decoded JSON, or None where it is not JSON or is too large."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body as an object; empty where it is none."""
        return self.body if isinstance(self.body, dict) else {}


class JsonClient:
    """An HTTP session, used as an asynchronous context manager.

    Requests follow no redirects, carry no cookies and obey the egress rules. Responses are bounded
    in size and, with `timeout`, in time.
    """

    def __init__(
        self,
        egress: EgressGuard,
        error_type: type[Exception],
        *,
        max_bytes: int,
        timeout: float | None = None,
        max_connections: int = 100,
        repeats_posts: bool = True,
    ) -> None:
        """Configure the client; the session opens with the context.

        Args:
            egress: enforces the egress rules.
            error_type: what `request` raises where there is no response.
            max_bytes: the largest response body that is read.
            timeout: seconds for one request; None: the caller sets the limit.
            max_connections: open connections at most; 0: no limit.
            repeats_posts: whether a POST is sent again if an idle connection was closed meanwhile.
                Pass False if a second one would change something: the first may have arrived.
        """
        self._egress = egress
        self._error_type = error_type
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._max_connections = max_connections
        self._repeats_posts = repeats_posts
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=self._egress.connector(HostSource.OPERATOR, limit=self._max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"waitd/{__version__}", "Accept": "application/json"},
            auto_decompress=False,  # `read_body` decodes
            read_bufsize=READ_AHEAD,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        service: str,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | Mapping[str, str] | None = None,
        ssl: Any = True,
        proxies: Proxies = DEFAULT_PROXIES,
        timeout: float | None = None,  # noqa: ASYNC109 - aiohttp's own limit
    ) -> JsonResponse:
        """Send one request.

        Args:
            method: the HTTP method.
            url: an absolute URL; sent as written where it is ASCII.
            service: names the peer in error messages.
            headers: sent besides the session's own.
            json: the body, encoded as JSON; or else `data`.
            data: the body as bytes, or as the fields of a form.
            ssl: as aiohttp's: False trusts any certificate.
            proxies: those of the connection that names the service.
            timeout: seconds for this request, instead of the client's.

        Raises:
            error_type: there is no response. The message quotes nothing of the request.
            ValueError: `url` is not a URL.
        """
        if self._session is None:
            raise RuntimeError(f"the client of {service} is used outside its context")
        headers = dict(headers or {})
        if json is not None:
            headers["Content-Type"], data = "application/json", exact_json.dumps(json)
        proxy = None
        try:
            self._egress.check_url(url, HostSource.OPERATOR)
            proxy = self._egress.proxy(url, proxies)
            send = partial(
                self._session.request,
                method,
                URL(url, encoded=url.isascii()),
                headers=headers,
                data=data,
                ssl=ssl,
                allow_redirects=False,
                proxy=proxy,
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout if timeout is None else timeout, sock_connect=None
                ),
            )
            async with await (repeat_if_closed(send) if self._repeats_posts else send()) as response:
                if response.status == PROXY_REFUSES and proxy is not None:
                    raise ProxyFailed(describe_refusing_proxy(proxy_name(proxy), PROXY_REFUSES))
                return JsonResponse(response.status, response.headers, await self._read_json(response))
        except EgressRefused as error:
            raise self._error_type(f"the egress rules block {service}: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            note_proxy(error, proxy)
            raise self._error_type(describe_error(error, service)) from None
        except asyncio.CancelledError as cancelled:
            note_proxy(cancelled, proxy)
            raise

    async def _read_json(self, response: aiohttp.ClientResponse) -> Any:
        encodings = response.headers.getall("Content-Encoding", ())
        body = await read_body(response.content, encodings, self._max_bytes)
        if body is None:
            response.close()  # do not read the rest
            return None
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return None


class ServiceClient:
    """The base of the clients of one service: their context is that of their `JsonClient`."""

    _client: JsonClient

    async def __aenter__(self) -> Self:
        """Opens the session."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes the session."""
        await self._client.__aexit__(*error)
