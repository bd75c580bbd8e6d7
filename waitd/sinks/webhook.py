"""The webhook sink: an HTTP POST of the event, signed per Standard Webhooks.

A 2xx answer is a delivery.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Self

import aiohttp
from pydantic import Field
from yarl import URL

from waitd.core.connections.connection import Connection, check_endpoint, is_conn_id, join_url, parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.connections.http_options import parse_delivery_options
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, note_proxy, proxy_name
from waitd.core.connections.webhook_signature import parse_webhook_secrets, sign_webhook
from waitd.core.errors import InvalidInput, NotSupported, Problem, WaitdError
from waitd.core.http.headers import header_problems, parse_retry_after
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parse_model
from waitd.outgoing import EgressGuard, describe_error
from waitd.outgoing.answer_limits import repeat_if_closed
from waitd.outgoing.errors import PROXY_REFUSES, describe_refusing_proxy
from waitd.outgoing.tls import client_tls
from waitd.ports import Authorization, HttpConnections, OutboxItem
from waitd.sinks.own_trouble import receipt_unless_own

#: The field of a connection's extra that holds its signing secrets.
SECRET_EXTRA = "webhook_secret"  # noqa: S105 - a name, not a secret
#: Headers that waitd sets itself, besides every `webhook-*`.
_RESERVED_HEADERS = frozenset({"content-type", "content-encoding"})
#: Bytes that aiohttp reads ahead of the response body, which is ignored.
_READ_AHEAD = 4096

Url = Annotated[str, Field(max_length=2048)]


class WebhookParams(Strict):
    """The parameters of a webhook: `url`, or `conn_id` and `endpoint`."""

    url: Url | None = Field(default=None, description="An absolute URL; or else conn_id.")
    conn_id: str | None = Field(
        default=None, description="The connection with the address, the credentials and the secret."
    )
    endpoint: Url | None = Field(default=None, description="A path below the connection's base URL.")
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers; no secrets.")


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Parsed parameters; `url` is None where `conn_id` is set."""

    url: str | None
    conn_id: str | None
    endpoint: str
    headers: Mapping[str, str]
    destination: str

    @property
    def host(self) -> str | None:
        """The host that the submitter named, None where a connection names it."""
        return None if self.url is None else parse_origin(self.url).host


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A target resolved for one attempt."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    verify: bool | ssl.SSLContext
    source: HostSource
    #: The connection's credentials; None without a connection.
    authorization: Authorization | None = None
    proxies: Proxies = DEFAULT_PROXIES
    #: Seconds for one request; None: only the attempt has a limit.
    timeout: float | None = None


class WebhookSink:
    """Posts events. Used as an asynchronous context manager.

    It holds one HTTP session for submitters' hosts and one for the operator's.
    """

    #: The parameters, as shown in the API document.
    params_model = WebhookParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret: str | None,
        secret_headers: Sequence[str],
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Configure the sink.

        Args:
            connections: looks up conn_ids.
            secret: signs deliveries whose connection has no secret of its own.
            secret_headers: patterns of header names that parameters must not contain.
            egress: enforces the egress rules; default: those that always hold.
            now: gives Unix seconds.

        Raises:
            ValueError: `secret` is malformed.
        """
        self._connections = connections
        self._keys = () if secret is None else parse_webhook_secrets(secret)
        self._secret_headers = tuple(secret_headers)
        self._egress = egress or EgressGuard()
        self._now = now
        self._sessions: dict[HostSource, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        """Opens the sessions."""
        self._sessions = {source: self._open_session(source) for source in HostSource}
        return self

    def _open_session(self, source: HostSource) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._egress.connector(source, limit=0),  # the deliverer limits concurrency
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "waitd"},
            auto_decompress=False,
            read_bufsize=_READ_AHEAD,
        )

    async def __aexit__(self, *_: object) -> None:
        """Closes the sessions."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    def parse(self, params: Mapping[str, Any]) -> WebhookTarget:
        """The destination that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotSupported: the egress rules forbid it.
        """
        parameters = parse_model(WebhookParams, dict(params))
        problems = [*_address_problems(parameters), *self._header_problems(parameters.headers)]
        if problems:
            raise InvalidInput(problems)
        receiver = parameters.conn_id
        if parameters.url is not None:
            receiver = str(parse_origin(parameters.url))
            try:
                self._egress.check_url(parameters.url, HostSource.SUBMITTER)
            except EgressRefused as error:
                raise NotSupported.at("/url", str(error)) from None
        else:
            self._check_endpoint(parameters.conn_id or "", parameters.endpoint or "")
        headers = {name.lower(): value for name, value in parameters.headers.items()}
        return WebhookTarget(
            parameters.url,
            parameters.conn_id,
            parameters.endpoint or "",
            headers,
            f"webhook {receiver}",
        )

    def _check_endpoint(self, conn_id: str, endpoint: str) -> None:
        """Checks the endpoint against the cached connection; each attempt checks it again."""
        connection = self._connections.cached_any(conn_id)
        try:
            base = connection.base_url() if connection else None
        except ValueError:
            base = None  # for the operator to fix, not the submitter
        try:
            base is None or join_url(base, endpoint)
        except ValueError as error:
            raise NotSupported.at("/endpoint", str(error)) from None

    def _header_problems(self, headers: Mapping[str, str]) -> list[Problem]:
        reserved = {
            name
            for name in headers
            if name.lower() in _RESERVED_HEADERS or name.lower().startswith("webhook-")
        }
        problems = [
            Problem("/" + name, "waitd sets this header of a webhook itself") for name in sorted(reserved)
        ]
        others = {name: value for name, value in headers.items() if name not in reserved}
        problems += header_problems(others, self._secret_headers)
        return [Problem("/headers" + problem.pointer, problem.detail) for problem in problems]

    def signed(self, target: WebhookTarget) -> bool:
        """Whether deliveries will be signed.

        A connection that is not cached counts as having no secret.
        """
        connection = self._connections.cached_any(target.conn_id) if target.conn_id is not None else None
        return bool(self._keys) or (connection is not None and bool(connection.extra.get(SECRET_EXTRA)))

    async def deliver(self, target: WebhookTarget, item: OutboxItem) -> Receipt:
        """One attempt; the caller limits its time. Failures are receipts, never exceptions."""
        try:
            endpoint = await self._resolve(target)
            receipt = await self._post(endpoint, item)
            unauthorized = isinstance(receipt, DeliveryFailed) and receipt.error == _UNAUTHORIZED
            if (unauthorized or receipt == _FORBIDDEN) and endpoint.authorization is not None:
                fresh = await self._resolve(target, refused=endpoint.authorization)
                if unauthorized or fresh.authorization is not endpoint.authorization:
                    receipt = await self._post(fresh, item)
        except (aiohttp.ClientError, OSError) as error:
            return receipt_unless_own(error, DeliveryFailed(describe_error(error, "the receiver")))
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            return receipt_unless_own(error, DeliveryFailed(str(error)))
        return receipt

    async def _resolve(self, target: WebhookTarget, refused: Authorization | None = None) -> _Endpoint:
        """The endpoint of this attempt; with `refused`, with newer credentials if there are any."""
        if target.conn_id is None:
            return _Endpoint(target.url or "", target.headers, self._keys, True, HostSource.SUBMITTER)
        connections = self._connections
        connection = await (connections.refresh if refused else connections.get)(target.conn_id)
        authorization = await connections.authorize(connection, refused=refused)
        options = parse_delivery_options(connection.extra)
        return _Endpoint(
            join_url(connection.base_url(), target.endpoint),
            {**target.headers, **{name.lower(): value for name, value in authorization.headers}},
            self._signing_keys(connection),
            await client_tls(options.tls),
            HostSource.OPERATOR,
            authorization,
            options.proxies,
            options.timeout,
        )

    def _signing_keys(self, connection: Connection) -> tuple[bytes, ...]:
        secret = connection.extra.get(SECRET_EXTRA)
        if not secret:
            return self._keys
        if not isinstance(secret, str):
            raise ValueError(  # noqa: TRY004 - bad data, not a bad call
                f"{SECRET_EXTRA} in the extra of connection {connection.conn_id} is not a string"
            )
        return parse_webhook_secrets(secret)

    async def _post(self, endpoint: _Endpoint, item: OutboxItem) -> Receipt:
        if not self._sessions:
            raise RuntimeError("the webhook sink is used outside its context")
        url = URL(endpoint.url, encoded=endpoint.url.isascii())  # keep the spelling where it is valid
        source = self._egress.check_url(endpoint.url, endpoint.source)
        headers = {**endpoint.headers, **self._event_headers(endpoint.keys, item)}
        signer = endpoint.authorization.signer if endpoint.authorization else None
        if signer is not None:
            headers |= signer.headers("POST", str(url), headers, item.event, now=self._now())
        proxy = self._egress.proxy(endpoint.url, endpoint.proxies)
        send = partial(
            self._sessions[source].post,
            url,
            data=item.event,
            headers=headers,
            allow_redirects=False,
            ssl=endpoint.verify,
            proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout, sock_connect=None),
        )
        try:
            response = await repeat_if_closed(send)
        except (aiohttp.ClientError, OSError, asyncio.CancelledError) as error:
            note_proxy(error, proxy)
            raise
        try:
            if response.status == PROXY_REFUSES and proxy is not None:
                return DeliveryFailed(describe_refusing_proxy(proxy_name(proxy), PROXY_REFUSES))
            return self._receipt(response.status, response.headers)
        finally:
            response.release()  # closes the connection unless the whole body has arrived

    def _event_headers(self, keys: tuple[bytes, ...], item: OutboxItem) -> Mapping[str, str]:
        timestamp = int(self._now())
        headers = {
            "content-type": EVENT_CONTENT_TYPE,
            "webhook-id": item.wait_id,
            "waitd-delivery-id": item.id,
            "webhook-timestamp": str(timestamp),
        }
        if keys:
            headers["webhook-signature"] = sign_webhook(keys, item.wait_id, timestamp, item.event)
        return headers

    def _receipt(self, status: int, headers: Mapping[str, str]) -> Receipt:
        if 200 <= status < 300:
            return Delivered()
        if status == 410:
            return DeliveryRejected("the receiver answered 410 Gone")
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        return DeliveryFailed(f"the receiver answered {status}{hint}", retry_after)


def _address_problems(parameters: WebhookParams) -> list[Problem]:
    if (parameters.url is None) == (parameters.conn_id is None):
        return [Problem("", "either url, or conn_id with an endpoint, is needed")]
    if parameters.conn_id is not None and not is_conn_id(parameters.conn_id):
        return [Problem("/conn_id", "up to 250 letters, digits and _#!()-.:/\\")]
    if parameters.url is not None and parameters.endpoint is not None:
        return [Problem("/endpoint", "an endpoint belongs to a conn_id; put it into the url")]
    try:
        if parameters.url is not None:
            parse_origin(parameters.url)
        else:
            check_endpoint(parameters.endpoint or "")
    except ValueError as error:
        return [Problem("/endpoint" if parameters.url is None else "/url", str(error))]
    return []


#: After a 401, or a 403 without Retry-After, the attempt is repeated once with fresh credentials.
_UNAUTHORIZED = "the receiver answered 401"
_FORBIDDEN = DeliveryFailed("the receiver answered 403")
