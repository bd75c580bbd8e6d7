"""Airflow's public REST API (v2), as seen through one connection.

It authenticates, sends requests, and turns every answer that says nothing about the request itself
(unreachable, forbidden, overloaded) into the receipt of the attempt. What is requested, and what a
200, 400, 404, 409 or 422 means, is up to the modes.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

from yarl import URL

from waitd.core.airflow.callback import AWAITING_INPUT, PARKED_STATES, TaskTry
from waitd.core.connections.connection import Connection, encode_segment, join_url
from waitd.core.connections.http_options import parse_delivery_options
from waitd.core.errors import ConnectionUnavailable, WaitdError
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.delivery import DeliveryFailed, DeliveryPostponed, DeliveryRejected
from waitd.outgoing import EgressGuard, JsonClient, JsonResponse, ServiceClient
from waitd.outgoing.tls import client_tls
from waitd.ports import Authorization, HttpConnections
from waitd.sinks.own_trouble import receipt_unless_own

#: The largest response in bytes: a task instance includes its rendered fields, and the payload if
#: any.
_MAX_RESPONSE = 8 * 1024 * 1024
#: Entries per page of a list (Airflow's `[api] maximum_page_limit`).
PAGE_SIZE = 100
#: The most entries of a list that are read, unless another limit is set.
MAX_LISTED = 1000
#: Seconds that Airflow's clock may lag behind this one, where its records are searched by time.
MAX_CLOCK_SKEW = 3600.0
#: Status codes that the modes handle.
_HANDLED = frozenset({200, 201, 204, 400, 404, 409, 422})

#: The receipt where Airflow answers 422. Its details quote the request, so they are not shown.
INVALID_REQUEST = DeliveryRejected("Airflow answered 422: it does not accept the request")

#: The path of lists that cover every DAG and run.
EVERY_RUN = ("dags", "~", "dagRuns", "~")

#: The Airflow role that a request needs.
Role = Literal["User", "Op"]


class AirflowRequestFailed(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The attempt cannot go on; `receipt` is its result, and its error is the message."""

    def __init__(self, receipt: DeliveryFailed | DeliveryRejected | DeliveryPostponed) -> None:
        super().__init__(receipt.why if isinstance(receipt, DeliveryPostponed) else receipt.error)
        self.receipt = receipt


class AirflowApis(ServiceClient):
    """Connects to Airflow's API.

    Used as an asynchronous context manager; `now` gives Unix seconds.
    """

    def __init__(self, connections: HttpConnections, egress: EgressGuard, now: Callable[[], float]) -> None:
        self._connections = connections
        self._now = now
        # the deliverer limits concurrency, and each attempt has a time limit
        self._client = JsonClient(
            egress,
            ConnectionUnavailable,
            max_bytes=_MAX_RESPONSE,
            max_connections=0,
            repeats_posts=False,
        )

    async def connect(self, conn_id: str) -> "AirflowApi":
        """The API of a connection, authenticated.

        Raises:
            WaitdError, ValueError: as `HttpConnections`.
        """
        connection = await self._connections.get(conn_id)
        authorization = await self._connections.authorize(connection)
        return AirflowApi(self._client, self._connections, connection, authorization, self._now)


class AirflowApi:
    """The API of one connection, for the length of one attempt."""

    def __init__(
        self,
        client: JsonClient,
        connections: HttpConnections,
        connection: Connection,
        authorization: Authorization,
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._connections = connections
        self._connection = connection
        self._authorization = authorization
        self._now = now
        self._parked_states: frozenset[str] | None = None

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
        endpoint = "/".join(["api/v2", *map(encode_segment, path)])
        try:
            response = await self._send(method, endpoint, query, body)
            if _is_unauthenticated(response):
                await self._refresh_credentials()
                response = await self._send(method, endpoint, query, body)
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            raise AirflowRequestFailed(receipt_unless_own(error, DeliveryFailed(str(error)))) from None
        receipt = self._failure(response, role)
        if receipt is not None:
            raise AirflowRequestFailed(receipt)
        return response

    async def list(
        self,
        field: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        max_listed: float = MAX_LISTED,
        role: Role = "User",
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The first `max_listed` entries of a list (inf: all), requested page by page.

        `field` holds the entries in each response. A list with a `body` is requested with POST.

        Raises:
            AirflowRequestFailed: as `request`, and where the response has no such list.
        """
        offset = 0
        while offset < max_listed:
            if body is None:
                page: dict[str, Any] = {"limit": str(PAGE_SIZE), "offset": str(offset)}
                response = await self.request("GET", *path, query={**(query or {}), **page}, role=role)
            else:
                page = {"page_limit": PAGE_SIZE, "page_offset": offset}
                response = await self.request("POST", *path, body={**body, **page}, role=role)
            entries = response.fields.get(field)
            if response.status != 200 or not isinstance(entries, list):
                raise AirflowRequestFailed(
                    DeliveryFailed(f"Airflow answered {response.status} to a request for its {field}")
                )
            for entry in entries:
                yield entry
            if len(entries) < PAGE_SIZE:
                return
            offset += PAGE_SIZE

    async def parked_states(self) -> frozenset[str]:
        """The states of parked tasks that this Airflow has. Raises AirflowRequestFailed."""
        if self._parked_states is None:
            response = await self.request("GET", "version")
            since = re.match(r"(\d+)\.(\d+)", str(response.fields.get("version")))
            is_older = since is not None and (int(since[1]), int(since[2])) < (3, 3)
            self._parked_states = PARKED_STATES - {AWAITING_INPUT} if is_older else PARKED_STATES
        return self._parked_states

    async def _refresh_credentials(self) -> None:
        self._connection = await self._connections.refresh(self._connection.conn_id)
        self._authorization = await self._connections.authorize(self._connection, refused=self._authorization)

    async def _send(
        self, method: str, endpoint: str, query: Mapping[str, str] | None, body: Any
    ) -> JsonResponse:
        url = join_url(self._connection.base_url(), endpoint)
        if query:
            url = str(URL(url, encoded=True).with_query(query))
        options = parse_delivery_options(self._connection.extra)
        return await self._client.request(
            method,
            url,
            service="Airflow",
            headers=dict(self._authorization.headers),
            json=body,
            ssl=await client_tls(options.tls),
            proxies=options.proxies,
            timeout=options.timeout,
        )

    def _failure(self, response: JsonResponse, role: Role) -> DeliveryFailed | DeliveryRejected | None:
        """The receipt of a response that no mode handles."""
        status, detail, headers = response.status, response.fields.get("detail"), response.headers
        if _is_unauthenticated(response):
            return DeliveryFailed(
                "Airflow does not accept the connection's credentials; with conn_type airflow, login and password are exchanged for a token"
            )
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        if status == 403 and retry_after is not None:  # a rate limit of what is before Airflow
            return DeliveryFailed("Airflow answered 403, and asks for another request later", retry_after)
        if status == 403 and isinstance(detail, str) and "not a respondent" in detail:
            return DeliveryRejected(
                "Airflow answered 403: add this connection's user to the task's assigned_users"
            )
        if status == 403:
            return DeliveryRejected(f"Airflow answered 403: this connection's user needs the role {role}")
        if status in _HANDLED:
            return None
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        return DeliveryFailed(f"Airflow answered {status}{hint}", retry_after)


def task_path(task: TaskTry) -> tuple[str, ...]:
    """The path of a task in its run; a request for one instance appends the map index."""
    return "dags", task.dag_id, "dagRuns", task.run_id, "taskInstances", task.task_id


def _is_unauthenticated(response: JsonResponse) -> bool:
    invalid_token = response.fields.get("detail") == "Invalid JWT token"
    return response.status == 401 or (response.status == 403 and invalid_token)
