"""A small client of a daemon's HTTP API, for the CLI, the demo and the benchmarks.

It returns decoded JSON; `waitd.models` describes the fields.
"""

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from waitd import exact_json
from waitd.core.connections.connection import encode_segment, parse_origin
from waitd.core.errors import Unavailable, WaitdError
from waitd.core.http.server_sent_events import EventParser, EventTooLarge, ServerSentEvent
from waitd.outgoing import read_body
from waitd.outgoing.answer_limits import READ_AHEAD, bounded_connector

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: After how many silent seconds an event stream counts as broken. A daemon sends every 15 s.
SILENCE_SECONDS = 45.0
#: How many items of a list one request gets; the API's limit.
PAGE_SIZE = 1000
#: The largest answer that is read, in bytes. A daemon's largest are those to batches.
MAX_ANSWER = 32 * 1024 * 1024


class DaemonUnreachable(Unavailable):
    """There is no answer from the daemon's URL, or it broke off."""


class RequestRefused(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The daemon refused a request.

    Attributes:
        status: the HTTP status.
        problem: the RFC 9457 document: `type`, `title`, `detail` and `errors` (each a `pointer`
            and a `detail`).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


class Client:
    """A client of one daemon. An async context manager.

    Every method raises DaemonUnreachable if there is no answer, and RequestRefused for a status
    from 300.
    """

    def __init__(
        self, url: str, *, timeout: float = 60.0, ca_file: Path | None = None, api_key: str | None = None
    ) -> None:
        """Creates a client.

        Args:
            url: where the daemon listens.
            timeout: how long one call may take, in seconds.
            ca_file: CA certificates (PEM) to use instead of the system's.
            api_key: an API key, or a token of the identity provider.

        Raises:
            ValueError: `url` is not an http(s) URL.
            OSError: `ca_file` cannot be read, or holds no certificate.
        """
        parse_origin(url)
        self.url = url.rstrip("/")
        self._credentials = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=bounded_connector(ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={**self._credentials, "Accept-Encoding": "identity"},
            auto_decompress=False,
            read_bufsize=READ_AHEAD,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Submits a wait; returns it, or the earlier one with the same key and body."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._call("POST", "/v1/waits", body=orjson.dumps(body), headers=headers)

    async def submit_batch(self, lines: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """Submits up to 10,000 waits; returns for each its `status`, and `id` or `problem`."""
        return self.batch_answers(await self.send_batch(batch_body(lines)))

    async def send_batch(self, body: bytes) -> bytes:
        """Sends a body made by `batch_body`; returns the answer for `batch_answers`."""
        return await self._send("POST", "/v1/waits:batch", body=body, content_type=NDJSON)

    def batch_answers(self, answer: bytes) -> Sequence[dict[str, Any]]:
        """Decodes the answer to a batch."""
        return [self._decoded(line) for line in answer.splitlines() if line]

    async def get(self, wait_id: str, wait: float = 0.0) -> dict[str, Any]:
        """Returns one wait; with `wait` (at most 60 s), once it has ended or that time is over."""
        query = {"wait": f"{wait:g}"} if wait else {}
        return await self._call("GET", _path(wait_id), query=query, seconds=self._timeout + wait)

    async def find(self, query: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """Returns the newest `limit` waits that match `query` (`state`, `kind`, `label.<name>`)."""
        return [
            wait async for page in self._pages("/v1/waits", "waits", query, limit) for wait in page["waits"]
        ]

    async def each(self, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yields every wait that matches `query`, newest first."""
        async for page in self._pages("/v1/waits", "waits", query):
            for wait in page["waits"]:
                yield wait

    async def _pages(
        self, path: str, items: str, query: Mapping[str, str], limit: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yields the pages of a list, up to `limit` items in all; a page may have fewer."""
        token: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
            page = await self._call(
                "GET", path, query={**query, "limit": str(size)} | ({"page_token": token} if token else {})
            )
            yield page
            token, left = page["next_page_token"], None if left is None else left - len(page[items])
            if token is None:
                return

    async def pokes(self, wait_id: str) -> dict[str, Any]:
        """Returns how often a wait was poked, and its last runs of equal verdicts."""
        return await self._call("GET", _path(wait_id, "/pokes"))

    async def act(self, wait_id: str, action: str) -> dict[str, Any]:
        """Performs `cancel`, `poke` or `redeliver`; returns the wait after it."""
        return await self._call("POST", _path(wait_id, f":{action}"))

    async def dead(self, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yields every dead delivery that matches `query` (`sink`, `wait_id`), newest first."""
        async for page in self._pages("/v1/deliveries", "deliveries", {**query, "state": "dead"}):
            for delivery in page["deliveries"]:
                yield delivery

    async def redeliver_dead(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Redelivers dead deliveries that match `filters` (`sink`, `wait_id`).

        Returns:
            How many were queued (`redelivered`), and whether there are `more`.
        """
        return await self._call(
            "POST", "/v1/deliveries:redeliver", body=orjson.dumps({**filters, "state": "dead"})
        )

    async def signal(self, key: str, payload: Any = None) -> dict[str, Any]:
        """Sends a signal; returns the answer, with how many `waits` listen to it now."""
        return await self._call("POST", f"/v1/signals/{quote(key)}", body=orjson.dumps(payload))

    async def follow(self, after: str | None = None) -> AsyncGenerator[ServerSentEvent, None]:
        """Yields outcomes as they happen, or from the event id `after` on, until the stream ends.

        The first event may have no data: its id is where to resume before the first outcome.

        Raises:
            RequestRefused: 410, the outcomes after `after` are no longer stored.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        quiet = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=SILENCE_SECONDS)
        async with self._answer(
            "GET", URL(self.url + "/v1/events"), headers=headers, timeout=quiet
        ) as answer:
            if answer.status >= 300:
                raise RequestRefused(answer.status, self._problem(answer.status, await self._read(answer)))
            parser = EventParser()
            async for chunk in answer.content.iter_any():
                try:
                    events = parser.feed(chunk)
                except EventTooLarge:
                    raise self._not_a_daemon(answer.status) from None
                for event in events:
                    yield event

    async def create_key(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Creates an API key (`role`, `namespace`, `expires_in`); only this shows its `key`."""
        return await self._call("POST", "/v1/keys", body=orjson.dumps(fields))

    async def keys(self) -> list[dict[str, Any]]:
        """Returns every API key, newest first."""
        keys: list[dict[str, Any]] = []
        query: dict[str, str] = {}
        while True:
            page = await self._call("GET", "/v1/keys", query=query)
            keys += page["keys"]
            if page.get("next_page_token") is None:
                return keys
            query = {"page_token": page["next_page_token"]}

    async def revoke_key(self, key_id: str) -> dict[str, Any]:
        """Revokes an API key and returns it."""
        return await self._call("POST", f"/v1/keys/{encode_segment(key_id)}:revoke")

    async def connection(self, conn_id: str, path: str | None = None) -> dict[str, Any]:
        """Returns what the daemon makes of a connection; with `path`, it asks the target once."""
        query = {} if path is None else {"try": path}
        return await self._call("GET", f"/v1/connections/{encode_segment(conn_id)}", query=query)

    async def limits(self) -> dict[str, Any]:
        """Returns the limits of the caller and of its namespace, and how much of each is used."""
        return await self._call("GET", "/v1/limits")

    async def cost(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Returns what ended waits have cost (`since`, `by`, `limit`)."""
        return await self._call("GET", "/v1/cost", query=query)

    async def metrics(self) -> str:
        """Returns the metrics in Prometheus' text format."""
        return (await self._send("GET", "/metrics")).decode()

    async def ready(self) -> bool:
        """Whether the daemon accepts waits now; False if it does not answer."""
        try:
            await self._send("GET", "/readyz", seconds=5.0)
        except (DaemonUnreachable, RequestRefused):
            return False
        return True

    async def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._decoded(await self._send(method, path, **how))
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = JSON,
        seconds: float | None = None,
    ) -> bytes:
        url = URL(self.url + path, encoded=True)
        async with self._answer(
            method,
            url.with_query(query) if query else url,
            data=body,
            headers={**(headers or {}), **({"Content-Type": content_type} if method == "POST" else {})},
            timeout=aiohttp.ClientTimeout(total=seconds or self._timeout),
        ) as answer:
            content = await self._read(answer)
        if answer.status >= 300:
            raise RequestRefused(answer.status, self._problem(answer.status, content))
        return content

    @asynccontextmanager
    async def _answer(self, method: str, url: URL, **how: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request; its answer is read inside the block. Raises DaemonUnreachable."""
        if self._session is None:
            raise RuntimeError("use the Client inside `async with`")
        try:
            async with self._session.request(method, url, allow_redirects=False, **how) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DaemonUnreachable(f"no waitd answers at {self.url} ({_reason(error)})") from error

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        content = await read_body(answer.content, answer.headers.getall("Content-Encoding", ()), MAX_ANSWER)
        if content is None:
            raise self._not_a_daemon(answer.status)
        return content

    def _not_a_daemon(self, status: int) -> RequestRefused:
        """What is raised for an answer that is larger than those of a daemon."""
        return RequestRefused(
            status, {"title": f"{self.url} answered more than a waitd daemon does; is the URL right?"}
        )

    def _problem(self, status: int, content: bytes) -> Mapping[str, Any]:
        with suppress(orjson.JSONDecodeError):
            problem = orjson.loads(content)
            if isinstance(problem, dict) and "title" in problem:
                return problem
        return {
            "title": f"{self.url} answered HTTP {status} and not as a waitd daemon does; is the URL right?"
        }

    def _decoded(self, content: bytes) -> Any:
        try:
            return exact_json.loads(content)
        except ValueError:
            raise RequestRefused(
                200, {"title": f"{self.url} did not answer as a waitd daemon does; is the URL right?"}
            ) from None


def batch_body(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Encodes waits as the lines of a batch."""
    return b"".join([orjson.dumps(line) + b"\n" for line in lines])


def _path(wait_id: str, rest: str = "") -> str:
    return f"/v1/waits/{encode_segment(wait_id)}{rest}"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"the TLS handshake failed: {error}"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
