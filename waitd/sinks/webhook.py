"""The webhook sink: an HTTP POST of the event, signed per Standard Webhooks. A 2xx is a delivery."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import aiohttp
from pydantic import Field
from yarl import URL

from waitd.core.connections.connection import Connection, check_endpoint, is_conn_id, join_url, parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.connections.webhook_signature import parse_webhook_secrets, sign_webhook
from waitd.core.errors import InvalidInput, NotSupported, Problem, WaitdError
from waitd.core.http.headers import header_problems, parse_retry_after
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.outgoing import Outgoing
from waitd.ports import Authorization, HttpConnections, OutboxItem
from waitd.sinks.http_trouble import what_broke

#: The field of a connection's extra that holds its signing secrets.
SECRET_EXTRA = "webhook_secret"  # noqa: S105 - a name, not a secret
#: Headers that say what the body is and who signed it, beside every `webhook-*`.
_OWN_HEADERS = frozenset({"content-type", "content-encoding"})
#: What aiohttp reads ahead of an answer's body, which nobody looks at, in bytes.
_READ_AHEAD = 4096

Url = Annotated[str, Field(max_length=2048)]


class WebhookParams(Strict):
    """The parameters of a webhook: `url`, or `conn_id` and `endpoint`."""

    url: Url | None = Field(default=None, description="An absolute URL; or else conn_id.")
    conn_id: str | None = Field(
        default=None, description="The connection that knows address, credentials and secret."
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
class _Address:
    url: str
    headers: Mapping[str, str] = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    verify: bool
    named: HostSource
    #: What makes the request the connection's own; None where there is none.
    authorization: Authorization | None = None


class WebhookSink:
    """Posts events. An asynchronous context, in which it holds HTTP sessions: one for hosts of submitters, one for the operator's."""

    #: What the API's document shows of its parameters.
    params_model = WebhookParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret: str | None,
        secret_headers: Sequence[str],
        outgoing: Outgoing | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`secret` signs what no connection's own secret signs; `secret_headers` are refused name patterns; `outgoing` holds
        the egress rules, default: those that always hold; `now` gives Unix seconds.

        Raises:
            ValueError: `secret` is malformed.
        """
        self._connections = connections
        self._keys = () if secret is None else parse_webhook_secrets(secret)
        self._secret_headers = tuple(secret_headers)
        self._outgoing = outgoing or Outgoing()
        self._now = now
        self._sessions: dict[HostSource, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        """Opens the sessions."""
        self._sessions = {named: self._session(named) for named in HostSource}
        return self

    def _session(self, named: HostSource) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._outgoing.connector(named, limit=0),  # the deliverer counts
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the caller has one
            headers={"user-agent": "waitd"},
            auto_decompress=False,
            read_bufsize=_READ_AHEAD,
        )

    async def __aexit__(self, *_: object) -> None:
        """Closes them."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    def parse(self, params: Mapping[str, Any]) -> WebhookTarget:
        """The destination that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotSupported: the egress rules do not let it through.
        """
        given = parsed(WebhookParams, dict(params))
        problems = [*self._address_problems(given), *self._header_problems(given.headers)]
        if problems:
            raise InvalidInput(problems)
        whom = given.conn_id
        if given.url is not None:
            whom = str(parse_origin(given.url))
            try:
                self._outgoing.judge_url(given.url, HostSource.BY_SUBMITTER)
            except EgressRefused as error:
                raise NotSupported.at("/url", str(error)) from None
        else:
            self._check_place(given.conn_id or "", given.endpoint or "")
        headers = {name.lower(): value for name, value in given.headers.items()}
        return WebhookTarget(given.url, given.conn_id, given.endpoint or "", headers, f"webhook {whom}")

    def _address_problems(self, given: WebhookParams) -> list[Problem]:
        if (given.url is None) == (given.conn_id is None):
            return [Problem("", "either url, or conn_id with an endpoint, is needed")]
        if given.conn_id is not None and not is_conn_id(given.conn_id):
            return [Problem("/conn_id", "up to 250 letters, digits and _#!()-.:/\\")]
        if given.url is not None and given.endpoint is not None:
            return [Problem("/endpoint", "an endpoint belongs to a conn_id; put it into the url")]
        try:
            if given.url is not None:
                parse_origin(given.url)
            else:
                check_endpoint(given.endpoint or "")
        except ValueError as error:
            return [Problem("/endpoint" if given.url is None else "/url", str(error))]
        return []

    def _check_place(self, conn_id: str, endpoint: str) -> None:
        """As far as the connection is known; it may be another one tomorrow, and is asked again whenever something is sent."""
        connection = self._connections.cached_any(conn_id)
        try:
            base = connection.base_url() if connection else None
        except ValueError:
            base = None  # the operator's to mend, not the submitter's
        try:
            base is None or join_url(base, endpoint)
        except ValueError as error:
            raise NotSupported.at("/endpoint", str(error)) from None

    def _header_problems(self, headers: Mapping[str, str]) -> list[Problem]:
        own = {
            name for name in headers if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-")
        }
        refused = [Problem("/" + name, "waitd sets this header of a webhook itself") for name in sorted(own)]
        foreign = {name: value for name, value in headers.items() if name not in own}
        refused += header_problems(foreign, self._secret_headers)
        return [Problem("/headers" + problem.pointer, problem.detail) for problem in refused]

    def signed(self, target: WebhookTarget) -> bool:
        """Whether deliveries will be signed, as far as it is known: a connection that is not in the cache may have a secret yet."""
        connection = self._connections.cached_any(target.conn_id) if target.conn_id is not None else None
        return bool(self._keys) or (connection is not None and bool(connection.extra.get(SECRET_EXTRA)))

    async def deliver(self, target: WebhookTarget, parcel: OutboxItem) -> Receipt:
        """One attempt. The caller bounds it in time; every trouble is a `DeliveryFailed` or `DeliveryRejected`, never an exception."""
        try:
            address = await self._address(target)
            receipt = await self._post(address, parcel)
            if receipt is _UNAUTHORIZED and address.authorization is not None:
                address = await self._address(target, refused=address.authorization)
                receipt = await self._post(address, parcel)
        except (aiohttp.ClientError, OSError) as error:
            return DeliveryFailed(what_broke(error, "the receiver"))
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            return DeliveryFailed(str(error))
        return receipt

    async def _address(self, target: WebhookTarget, refused: Authorization | None = None) -> _Address:
        """Where to; with `refused`, with newer credentials than those, where they are to be had."""
        if target.conn_id is None:
            return _Address(target.url or "", target.headers, self._keys, True, HostSource.BY_SUBMITTER)
        connections = self._connections
        connection = await (connections.refreshed if refused else connections.get)(target.conn_id)
        authorization = None if refused else connections.cached_authorization(connection)
        if authorization is None:
            authorization = await connections.authorize(connection, refused=refused)
        return _Address(
            join_url(connection.base_url(), target.endpoint),
            {**target.headers, **{name.lower(): value for name, value in authorization.headers}},
            self._keys_of(connection),
            connection.verifies_tls(),
            HostSource.BY_OPERATOR,
            authorization,
        )

    def _keys_of(self, connection: Connection) -> tuple[bytes, ...]:
        secret = connection.extra.get(SECRET_EXTRA)
        if not secret:
            return self._keys
        if not isinstance(secret, str):
            raise ValueError(f"{SECRET_EXTRA} in the extra of connection {connection.conn_id} is no string")  # noqa: TRY004
        return parse_webhook_secrets(secret)

    async def _post(self, address: _Address, parcel: OutboxItem) -> Receipt:
        if not self._sessions:
            raise RuntimeError("the webhook sink is used outside its context")
        url = URL(address.url, encoded=address.url.isascii())  # as it was written, where it can be sent so
        named = self._outgoing.judge_url(address.url, address.named)
        headers = {**address.headers, **self._own_headers(address.keys, parcel)}
        signer = address.authorization.signer if address.authorization else None
        if signer is not None:
            headers |= signer.headers("POST", str(url), headers, parcel.event, now=self._now())
        response = await self._sessions[named].post(
            url, data=parcel.event, headers=headers, allow_redirects=False, ssl=address.verify
        )
        try:
            return self._receipt(response.status, response.headers)
        finally:
            response.release()  # unread: a body that has not come whole already closes the connection

    def _own_headers(self, keys: tuple[bytes, ...], parcel: OutboxItem) -> Mapping[str, str]:
        timestamp = int(self._now())
        own = {
            "content-type": EVENT_CONTENT_TYPE,
            "webhook-id": parcel.id,
            "webhook-timestamp": str(timestamp),
        }
        if keys:
            own["webhook-signature"] = sign_webhook(keys, parcel.id, timestamp, parcel.event)
        return own

    def _receipt(self, status: int, headers: Mapping[str, str]) -> Receipt:
        if 200 <= status < 300:
            return Delivered()
        if status == 410:
            return DeliveryRejected("the receiver answered 410 Gone")
        if status == 401:
            return _UNAUTHORIZED
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        return DeliveryFailed(f"the receiver answered {status}{hint}", retry_after)


#: Perhaps with newer credentials it is taken.
_UNAUTHORIZED = DeliveryFailed("the receiver answered 401")
