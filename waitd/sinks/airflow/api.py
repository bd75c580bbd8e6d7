"""Airflow's public REST API (v2), as seen through one connection.

It authenticates, sends requests, and turns every answer that says nothing about the request itself
(unreachable, forbidden, overloaded) into the receipt of the attempt. What is requested, and what a
200, 400, 404, 409 or 422 means, is up to the modes.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, Self

from yarl import URL

from waitd.core.connections.connection import encode_segment, join_url
from waitd.core.errors import ConnectionUnavailable, WaitdError
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.delivery import DeliveryFailed, DeliveryRejected, Receipt
from waitd.outgoing import JsonClient, JsonResponse, Outgoing
from waitd.ports import Authorization, HttpConnections

#: The largest response in bytes: a task instance includes its rendered fields, and the payload if
#: any.
_MAX_RESPONSE = 8 * 1024 * 1024
#: Entries per page of a list.
_PAGE_SIZE = 100
#: The most entries of a list that are read.
MAX_LISTED = 1000
#: Seconds that Airflow's clock may lag behind this one, where its records are searched by time.
MAX_CLOCK_SKEW = 3600.0
#: Status codes that the modes handle.
_HANDLED = frozenset({200, 201, 204, 400, 404, 409, 422})

#: The receipt where Airflow answers 422. Its details quote the request, so they are not shown.
INVALID_REQUEST = DeliveryRejected("Airflow answered 422: it does not accept the request")

#: The Airflow role that a request needs.
Role = Literal["User", "Op"]


class AirflowRequestFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """The attempt cannot go on; `receipt` is its result."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt)
        self.receipt = receipt

    @property
    def why(self) -> str:
        """The receipt's message."""
        return str(getattr(self.receipt, "error", self.receipt))


class AirflowApis:
    """Connects to Airflow's API.

    Used as an asynchronous context manager; `now` gives Unix seconds.
    """

    def __init__(self, connections: HttpConnections, outgoing: Outgoing, now: Callable[[], float]) -> None:
        self._connections = connections
        self._now = now
        # the deliverer limits concurrency, and each attempt has a time limit
        self._client = JsonClient(outgoing, ConnectionUnavailable, max_bytes=_MAX_RESPONSE, max_connections=0)

    async def __aenter__(self) -> Self:
        """Opens the session."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes the session."""
        await self._client.__aexit__(*error)

    async def connect(self, conn_id: str) -> "AirflowApi":
        """The API of a connection, authenticated.

        Raises:
            WaitdError, ValueError: as `HttpConnections`.
        """
        api = AirflowApi(self._client, self._connections, conn_id, self._now)
        await api.authenticate()
        return api


class AirflowApi:
    """The API of one connection, for the length of one attempt."""

    def __init__(
        self,
        client: JsonClient,
        connections: HttpConnections,
        conn_id: str,
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._connections = connections
        self._conn_id = conn_id
        self._now = now
        self._authorization = Authorization()
        self._base_url = ""
        self._verify_tls = True

    async def authenticate(self, refused: Authorization | None = None) -> None:
        """Gets the credentials of the requests; with `refused`, newer ones if there are any."""
        connections = self._connections
        connection = await (connections.refresh if refused else connections.get)(self._conn_id)
        authorization = None if refused else connections.cached_authorization(connection)
        if authorization is None:
            authorization = await connections.authorize(connection, refused=refused)
        self._authorization = authorization
        self._base_url = connection.base_url()
        self._verify_tls = connection.verifies_tls()

    async def request(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        role: Role = "User",
    ) -> JsonResponse:
        """One request below `/api/v2`; each element of `path` is one segment.

        Raises:
            AirflowRequestFailed: Airflow was not reached, or its answer says nothing about the
            request.
        """
        url = join_url(self._base_url, "/".join(["api/v2", *map(encode_segment, path)]))
        if query:
            url = str(URL(url, encoded=True).with_query(query))
        try:
            response = await self._send(method, url, body)
            if _is_unauthenticated(response):
                await self.authenticate(refused=self._authorization)
                response = await self._send(method, url, body)
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            raise AirflowRequestFailed(DeliveryFailed(str(error))) from None
        receipt = self._failure(response, role)
        if receipt is not None:
            raise AirflowRequestFailed(receipt)
        return response

    async def list(
        self, field: str, *path: str, query: Mapping[str, str], role: Role = "User"
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The first MAX_LISTED entries of a list, requested page by page.

        `field` holds the entries in each response.

        Raises:
            AirflowRequestFailed: as `request`, and where the response has no such list.
        """
        for offset in range(0, MAX_LISTED, _PAGE_SIZE):
            page = {"limit": str(_PAGE_SIZE), "offset": str(offset)}
            response = await self.request("GET", *path, query={**query, **page}, role=role)
            entries = response.fields.get(field)
            if response.status != 200 or not isinstance(entries, list):
                raise AirflowRequestFailed(
                    DeliveryFailed(f"Airflow answered {response.status} to a request for its {field}")
                )
            for entry in entries:
                yield entry
            if len(entries) < _PAGE_SIZE:
                return

    async def _send(self, method: str, url: str, body: Any) -> JsonResponse:
        headers = dict(self._authorization.headers)
        return await self._client.request(
            method, url, service="Airflow", headers=headers, json=body, ssl=self._verify_tls
        )

    def _failure(self, response: JsonResponse, role: Role) -> Receipt | None:
        """The receipt of a response that no mode handles."""
        status, detail, headers = response.status, response.fields.get("detail"), response.headers
        if _is_unauthenticated(response):
            return DeliveryFailed(
                "Airflow does not accept the connection's credentials; with conn_type airflow, login and password are exchanged for a token"
            )
        if status == 403 and isinstance(detail, str) and "not a respondent" in detail:
            return DeliveryRejected(
                "Airflow answered 403: add this connection's user to the task's assigned_users"
            )
        if status == 403:
            return DeliveryRejected(f"Airflow answered 403: this connection's user needs the role {role}")
        if status in _HANDLED:
            return None
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        return DeliveryFailed(f"Airflow answered {status}{hint}", retry_after)


def _is_unauthenticated(response: JsonResponse) -> bool:
    invalid_token = response.fields.get("detail") == "Invalid JWT token"
    return response.status == 401 or (response.status == 403 and invalid_token)
