"""Airflow's public REST API (v2), as one connection sees it: logs in, asks, and sorts out every answer that is no matter of the question.

What is asked, and what a 200, 400, 404, 409 or 422 means to it, is the modes' own.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, NamedTuple, Self

import aiohttp
import orjson
from yarl import URL

from waitd.core.connections.connection import encode_segment, join_url
from waitd.core.connections.egress import HostSource
from waitd.core.errors import WaitdError
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.delivery import DeliveryFailed, DeliveryRejected, Receipt
from waitd.outgoing import Outgoing
from waitd.ports import Authorization, HttpConnections
from waitd.sinks.http_trouble import what_broke

#: The largest answer that is read, in bytes: a task instance comes with its rendered fields, an answered one with the payload.
_MAX_ANSWER = 8 * 1024 * 1024
#: How many entries of a list come in one answer, and how many are read at most.
_PAGE = 100
LISTED = 1000
#: How far Airflow's clock may be behind this one's, in seconds, where its records are searched.
CLOCKS_APART = 3600.0
#: Answers that a mode knows what to do with.
_UNDERSTOOD = frozenset({200, 201, 204, 400, 404, 409, 422})

Role = Literal["User", "Op"]


class Stopped(Exception):  # noqa: N818 - an end of the attempt, not always an error
    """The attempt is over, whatever it was about; `receipt` is what came of it."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt)
        self.receipt = receipt

    @property
    def why(self) -> str:
        """The receipt's sentence."""
        return str(getattr(self.receipt, "error", self.receipt))


class AirflowAnswer(NamedTuple):
    """Status and decoded JSON; `body` is None where it is none."""

    status: int
    body: Any

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body as an object; empty where it is none."""
        return self.body if isinstance(self.body, dict) else {}


class AirflowApis:
    """Opens APIs. An asynchronous context, in which it holds one HTTP session; `now` gives Unix seconds."""

    def __init__(self, connections: HttpConnections, outgoing: Outgoing, now: Callable[[], float]) -> None:
        self._connections = connections
        self._outgoing = outgoing
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Opens the session."""
        self._session = aiohttp.ClientSession(
            connector=self._outgoing.connector(HostSource.BY_OPERATOR, limit=0),  # the deliverer counts
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the caller has one
            headers={"user-agent": "waitd", "accept": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def opened(self, conn_id: str) -> "AirflowApi":
        """The API behind a connection, with credentials at hand.

        Raises:
            WaitdError, ValueError: as `HttpConnections`.
        """
        if self._session is None:
            raise RuntimeError("the airflow sink is used outside its context")
        api = AirflowApi(self._session, self._connections, self._outgoing, conn_id, self._now)
        await api.log_in()
        return api


class AirflowApi:
    """One connection's view, for the length of one attempt."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        connections: HttpConnections,
        outgoing: Outgoing,
        conn_id: str,
        now: Callable[[], float],
    ) -> None:
        self._session = session
        self._connections = connections
        self._outgoing = outgoing
        self._conn_id = conn_id
        self._now = now
        self._authorization = Authorization()
        self._base = ""
        self._verify = True

    async def log_in(self, refused: Authorization | None = None) -> None:
        """Gets what the requests carry; with `refused`, something newer than that, where it is to be had."""
        connections = self._connections
        connection = await (connections.refreshed if refused else connections.get)(self._conn_id)
        authorization = None if refused else connections.cached_authorization(connection)
        if authorization is None:
            authorization = await connections.authorize(connection, refused=refused)
        self._authorization = authorization
        self._base = connection.base_url()
        self._verify = connection.verifies_tls()

    async def ask(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        role: Role = "User",
    ) -> AirflowAnswer:
        """The answer to a request below `/api/v2`, each element of `path` one segment. `role` is Airflow's role that may ask it.

        Raises:
            Stopped: there is no answer that says something about what was asked: not reached, not let in, overloaded.
        """
        url = join_url(self._base, "/".join(["api/v2", *map(encode_segment, path)]))
        if query:
            url = str(URL(url, encoded=True).with_query(query))
        try:
            answer, receipt = await self._exchange(method, url, body, role)
            if receipt is _UNAUTHENTICATED:
                await self.log_in(refused=self._authorization)
                answer, receipt = await self._exchange(method, url, body, role)
        except (aiohttp.ClientError, OSError) as error:
            raise Stopped(DeliveryFailed(what_broke(error, "Airflow"))) from None
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            raise Stopped(DeliveryFailed(str(error))) from None
        if receipt is not None:
            raise Stopped(receipt)
        return answer

    async def listed(
        self, field: str, *path: str, query: Mapping[str, str], role: Role = "User"
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The entries of a list, `field` of its answers, page by page; the first LISTED of them. Raises Stopped, also where it is no list."""
        for offset in range(0, LISTED, _PAGE):
            bounds = {"limit": str(_PAGE), "offset": str(offset)}
            answer = await self.ask("GET", *path, query={**query, **bounds}, role=role)
            entries = answer.fields.get(field)
            if answer.status != 200 or not isinstance(entries, list):
                raise Stopped(
                    DeliveryFailed(f"Airflow answered {answer.status} to a question for its {field}")
                )
            for entry in entries:
                yield entry
            if len(entries) < _PAGE:
                return

    async def _exchange(
        self, method: str, url: str, body: Any, role: Role
    ) -> tuple[AirflowAnswer, Receipt | None]:
        """One request: the answer, and the receipt that ends the attempt, if it does."""
        self._outgoing.judge_url(url, HostSource.BY_OPERATOR)
        headers = dict(self._authorization.headers)
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = orjson.dumps(body)
        async with self._session.request(
            method,
            URL(url, encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
            ssl=self._verify,
        ) as response:
            answer = AirflowAnswer(response.status, _decoded(await _read(response)))
            return answer, self._trouble(answer, response.headers, role)

    def _trouble(self, answer: AirflowAnswer, headers: Mapping[str, str], role: Role) -> Receipt | None:
        status, detail = answer.status, answer.fields.get("detail")
        if status == 401 or (status == 403 and detail == "Invalid JWT token"):
            return _UNAUTHENTICATED
        if status == 403 and isinstance(detail, str) and "not a respondent" in detail:
            return DeliveryRejected(
                "Airflow answered 403: the task's assigned_users leave out this connection's user"
            )
        if status == 403:
            return DeliveryRejected(f"Airflow answered 403: this connection's user needs the role {role}")
        if status in _UNDERSTOOD:
            return None
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        return DeliveryFailed(f"Airflow answered {status}{hint}", retry_after)


#: Perhaps with newer credentials it answers.
_UNAUTHENTICATED = DeliveryFailed(
    "Airflow does not accept the connection's credentials; with conn_type airflow, login and password are exchanged for a token"
)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or nothing where it is larger than any answer of Airflow's."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_ANSWER:
            response.close()
            return b""
    return bytes(body)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
