"""A small client of a daemon's HTTP API, for everything of waitd that talks to one from outside: the CLI, the demo, the lab.

It speaks JSON as the API does and returns it decoded; what the fields mean stands in `waitd.models`.
"""

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from waitd.core.connections.connection import encode_segment, parse_origin
from waitd.core.errors import Unavailable, WaitdError
from waitd.core.http.server_sent_events import EventParser, ServerSentEvent

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: A daemon that is there sends something on an event stream each 15 s; after three times as long it is gone, seconds.
QUIET = 45.0
#: How many items of a list are asked for at once; the API gives no more.
PAGE = 1000


class DaemonUnreachable(Unavailable):
    """Nobody answered at the daemon's URL, or the answer broke off."""


class RequestRefused(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The daemon answered that it will not.

    Attributes:
        status: the HTTP status.
        problem: the RFC 9457 document, with `type`, `title`, `detail` and `errors` (each a `pointer` and a `detail`).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


class Client:
    """One daemon, seen from outside. An async context manager.

    Every method raises DaemonUnreachable where no answer came, and Refused where the answer is no.
    """

    def __init__(
        self, url: str, *, timeout: float = 60.0, ca_file: Path | None = None, api_key: str | None = None
    ) -> None:
        """`url`: where the daemon listens; `timeout`: seconds that one call may take; `ca_file`: certificates (PEM) to check the
        daemon's against instead of the system's; `api_key`: says who calls, an API key or an identity provider's token.

        Raises:
            ValueError: `url` is no http(s) URL.
            OSError: `ca_file` cannot be read, or holds no certificate.
        """
        parse_origin(url)
        self.url = url.rstrip("/")
        self._credentials = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=self._credentials
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """The wait that `POST /v1/waits` answers, new or (same key, same body) the one from before."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        wait: dict[str, Any] = await self._call("POST", "/v1/waits", body=orjson.dumps(body), headers=headers)
        return wait

    async def submit_batch(self, lines: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """One answer for each line, in order: `status`, and `id` or `problem`. At most 10,000 lines, 64 MiB."""
        return self.batch_answers(await self.send_batch(batch_body(lines)))

    async def send_batch(self, body: bytes) -> bytes:
        """The answer to a batch (see `batch_body`), as it came (see `batch_answers`)."""
        return await self._send("POST", "/v1/waits:batch", body=body, content_type=NDJSON)

    def batch_answers(self, answer: bytes) -> Sequence[dict[str, Any]]:
        """The lines of an answer to a batch."""
        return [self._decoded(line) for line in answer.splitlines() if line]

    async def get(self, wait_id: str, wait: float = 0.0) -> dict[str, Any]:
        """One wait; with `wait` (seconds, at most 60) as soon as it ends or they are over."""
        query = {"wait": f"{wait:g}"} if wait else {}
        found: dict[str, Any] = await self._call(
            "GET", _path(wait_id), query=query, seconds=self._timeout + wait
        )
        return found

    async def find(self, query: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """The newest `limit` waits that match `query` (`state`, `kind`, `label.<name>`)."""
        found: list[dict[str, Any]] = []
        async for page in self._pages("/v1/waits", query, limit):
            found += page["waits"]
        return found

    async def each(self, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Every wait that matches `query`, newest first."""
        async for page in self._pages("/v1/waits", query):
            for wait in page["waits"]:
                yield wait

    async def _pages(
        self, path: str, query: Mapping[str, str], most: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The pages of a list, up to `most` items in all."""
        token: str | None = None
        left = most
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await self._call(
                "GET", path, query={**query, "limit": str(size)} | ({"page_token": token} if token else {})
            )
            yield page
            token, left = page["next_page_token"], None if left is None else left - size
            if token is None:
                return

    async def pokes(self, wait_id: str) -> dict[str, Any]:
        """How often a wait was poked, and its last runs of equal verdicts."""
        seen: dict[str, Any] = await self._call("GET", _path(wait_id, "/pokes"))
        return seen

    async def act(self, wait_id: str, action: str) -> dict[str, Any]:
        """The wait after `cancel`, `poke` or `redeliver`."""
        after: dict[str, Any] = await self._call("POST", _path(wait_id, f":{action}"))
        return after

    async def dead(self, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Every dead delivery that matches `query` (`sink`, `wait_id`), newest first."""
        async for page in self._pages("/v1/deliveries", {**query, "state": "dead"}):
            for delivery in page["deliveries"]:
                yield delivery

    async def redeliver_dead(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """How many dead deliveries that match `wanted` (`sink`, `wait_id`) were queued anew, and whether there are `more`."""
        body = orjson.dumps({**wanted, "state": "dead"})
        done: dict[str, Any] = await self._call("POST", "/v1/deliveries:redeliver", body=body)
        return done

    async def signal(self, key: str, payload: Any = None) -> dict[str, Any]:
        """What `POST /v1/signals/{key}` answers: the signal is on disk, and `waits` listen to it now."""
        path = "/v1/signals/" + quote(key, safe="/")
        kept: dict[str, Any] = await self._call("POST", path, body=orjson.dumps(payload))
        return kept

    async def follow(self, after: str | None = None) -> AsyncGenerator[ServerSentEvent, None]:
        """Outcomes as they come, or with `after` (the id of an event) from there on, until the stream breaks off or ends.

        The first event may have no data: its id is where to resume when nothing has come yet.

        Raises:
            Refused: 410 where what came after `after` is not stored any more.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        quiet = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=QUIET)
        async with self._answer(
            "GET", URL(self.url + "/v1/events"), headers=headers, timeout=quiet
        ) as answer:
            if answer.status >= 300:
                raise RequestRefused(answer.status, self._problem(answer.status, await answer.read()))
            parser = EventParser()
            async for chunk in answer.content.iter_any():
                for event in parser.feed(chunk):
                    yield event

    async def create_key(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """A new API key as `wanted` (`role`, `namespace`, `expires_in`); its `key` is shown this once."""
        made: dict[str, Any] = await self._call("POST", "/v1/keys", body=orjson.dumps(wanted))
        return made

    async def keys(self) -> list[dict[str, Any]]:
        """Every API key, newest first."""
        found: dict[str, Any] = await self._call("GET", "/v1/keys")
        return list(found["keys"])

    async def revoke_key(self, key_id: str) -> dict[str, Any]:
        """The API key after it was revoked."""
        revoked: dict[str, Any] = await self._call("POST", f"/v1/keys/{encode_segment(key_id)}:revoke")
        return revoked

    async def cost(self, query: Mapping[str, str]) -> dict[str, Any]:
        """What ended waits have cost (`since`, `by`, `limit`)."""
        found: dict[str, Any] = await self._call("GET", "/v1/cost", query=query)
        return found

    async def metrics(self) -> str:
        """Its metrics, in Prometheus' text format."""
        return (await self._send("GET", "/metrics")).decode()

    async def ready(self) -> bool:
        """Whether the daemon takes waits now; no answer is no."""
        try:
            await self._send("GET", "/readyz", seconds=5.0)
        except (DaemonUnreachable, RequestRefused):
            return False
        return True

    async def _call(self, method: str, path: str, **how: Any) -> Any:
        return self._decoded(await self._send(method, path, **how))

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
            content = await answer.read()
        if answer.status >= 300:
            raise RequestRefused(answer.status, self._problem(answer.status, content))
        return content

    @asynccontextmanager
    async def _answer(self, method: str, url: URL, **how: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, to be read inside the block. Raises DaemonUnreachable where none comes, or it breaks off."""
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        try:
            async with self._session.request(method, url, allow_redirects=False, **how) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DaemonUnreachable(f"no waitd answers at {self.url} ({_why(error)})") from error

    def _problem(self, status: int, content: bytes) -> Mapping[str, Any]:
        try:
            problem = orjson.loads(content)
        except orjson.JSONDecodeError:
            problem = None
        if isinstance(problem, dict) and "title" in problem:
            return problem
        return {
            "title": f"{self.url} answered HTTP {status} and not as a waitd daemon does; is the URL right?"
        }

    def _decoded(self, content: bytes) -> Any:
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise RequestRefused(
                200, {"title": f"{self.url} did not answer as a waitd daemon does; is the URL right?"}
            ) from None


def batch_body(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Waits as the lines of a batch."""
    return b"".join([orjson.dumps(line) + b"\n" for line in lines])


def _path(wait_id: str, rest: str = "") -> str:
    return f"/v1/waits/{encode_segment(wait_id)}{rest}"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"it does not speak TLS as we do: {error}"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
