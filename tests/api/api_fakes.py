"""The API under test on a real port, over a real store and fakes of its other dependencies."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import orjson
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from fakes import FakeConnections
from open_connection import open_connection

from waitd.api import ApiDependencies, ApiRunner
from waitd.core.auth.api_key import format_key
from waitd.core.auth.namespaces import NamespaceRules, Namespaces
from waitd.core.connections.connection import Connection
from waitd.core.errors import Conflict, InvalidInput, UnknownConnection
from waitd.core.waits.audit import Caller
from waitd.core.waits.delivery import Delivered, Receipt
from waitd.core.waits.verdict import Pending, Verdict
from waitd.core.waits.wait import Outcome, Progress, WaitId, WaitState
from waitd.metrics import Instruments
from waitd.ports import (
    IdempotentSubmit,
    Inserted,
    LiveWait,
    NewWait,
    OutboxItem,
    Pokeable,
    Probe,
    UnstoredOutcome,
)
from waitd.stores import Database, Store

NOW = 1_700_000_000.0
#: How long a test waits for a condition, an answer or a connection before it fails, in seconds.
PATIENCE = 60.0
DAY = 86_400.0
SUCCESS = Outcome(WaitState.SUCCESS, {"rows": 3}, "done", "success")

_ROLES = ("viewer", "submitter", "operator")
#: A key for each role in two namespaces, by the names `<namespace>_<role>`, and one for an admin.
_NAMES = ("viewer", "admin", *(f"{namespace}_{role}" for namespace in "ab" for role in _ROLES))
TOKENS = {name: format_key(name.replace("_", ""), "s" * 40) for name in _NAMES}
KEYS_FILE = "\n".join(
    f"{token} {name.rpartition('_')[2]} {'team_' + name[0] if '_' in name else '*' if name == 'viewer' else 'default'}"
    for name, token in TOKENS.items()
)
#: What the waits of the two namespaces may use; those of others may use nothing.
NAMESPACES = Namespaces(
    {
        "team_a": NamespaceRules(("team_a_*",), ("*.team-a.example",), ("team_a_*",)),
        "team_b": NamespaceRules(("*",), ("*",), ("*",)),
    }
)


@dataclass(frozen=True)
class PlainTarget:
    conn_id: str | None = None
    key: str = ""
    request_timeout: float = 10.0
    destination: str = "somewhere"
    host: str | None = None
    environment_account: str | None = None

    @property
    def account(self) -> str | None:
        return self.environment_account or self.conn_id


@dataclass(frozen=True)
class DagTarget(PlainTarget):
    dag_id: str | None = None


class PlainProbe(Probe):
    """Requires `endpoint`, accepts any connection and account; counts what it parsed."""

    def __init__(self) -> None:
        self.parsed = 0

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> PlainTarget:
        self.parsed += 1
        if "endpoint" not in params:
            raise InvalidInput.at("/endpoint", "needed")
        return PlainTarget(params.get("http_conn_id"), environment_account=params.get("environment_account"))

    def origin(self, target: Any) -> str:
        return "somewhere"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        return [Pending() for _ in group]


class PlainSink:
    """Accepts `url`, which is used as the host, or `conn_id`; signs with the latter."""

    def parse(self, params: Mapping[str, Any]) -> PlainTarget:
        if unknown := params.keys() - {"url", "conn_id"}:
            raise InvalidInput.at(f"/{min(unknown)}", "unknown field")
        return PlainTarget(params.get("conn_id"), host=params.get("url"))

    def signed(self, target: Any) -> bool | None:
        return target.conn_id is not None

    async def deliver(self, target: Any, item: OutboxItem) -> Receipt:
        return Delivered()


class DagSink(PlainSink):
    """Accepts `conn_id` and `dag_id`."""

    def parse(self, params: Mapping[str, Any]) -> PlainTarget:
        return DagTarget(params.get("conn_id"), dag_id=params.get("dag_id"))


class FakeInspector:
    """Knows these connections, and notes what it is asked."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[tuple[str, str | None]] = []

    async def inspect(self, conn_id: str, path: str | None = None) -> dict[str, Any]:
        self.asked.append((conn_id, path))
        if conn_id not in self.known:
            raise UnknownConnection("there is no such connection")
        tried = None if path is None else {"status": 200, "error": None, "seconds": 0.1}
        fields = {"conn_type": "http", "host": "h", "port": 80, "password": "***"}
        extras = [{"name": "timeout", "use": "ignored", "why": "it is"}]
        return {"conn_id": conn_id, "resolver": "environment", "fields": fields, "extras": extras, "url": "http://h", "problem": None, "tried": tried}  # fmt: skip


class CachedConnections(FakeConnections):
    """Connections with a cache that the test fills; notes each lookup.

    Attributes:
        known: the connections that exist.
        unavailable: those whose resolver is down.
        cached: those in the cache.
        looked_up: every lookup, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()
        self.unavailable: set[str] = set()
        self.cached: set[str] = set()
        self.looked_up: list[str] = []

    async def get(self, conn_id: str) -> Connection:
        self.looked_up.append(conn_id)
        self.down = conn_id in self.unavailable
        self.by_id = {name: Connection(name) for name in self.known}
        return await super().get(conn_id)

    def cached_any(self, conn_id: str) -> Connection | None:
        return Connection(conn_id) if conn_id in self.cached else None

    cached_fresh = cached_any


@dataclass
class FakePoking:
    capacity: int = 100_000
    lives: dict[str, LiveWait] = field(default_factory=dict)
    poked: list[str] = field(default_factory=list)

    def capacity_left(self) -> int:
        return self.capacity

    def live(self, wait_id: str) -> LiveWait | None:
        return self.lives.get(wait_id)

    def poke_now(self, wait_id: str) -> bool:
        self.poked.append(wait_id)
        return wait_id in self.lives


@dataclass
class FakeHealth:
    draining: bool = False
    store_error: str = ""
    local_trouble: str = ""
    warnings: Sequence[str] = ()
    refused_outcomes: int = 0
    loop_lag: float = 0.001

    def report_trouble(self, trouble: str) -> None:
        self.local_trouble = trouble


class WatchedStore(Store):
    """A store in memory; notes what was inserted, and what was looked up as replays."""

    def __init__(self, database: Database, **options: Any) -> None:
        super().__init__(
            database, destination_of=lambda _, sink: str(sink["kind"]), now=lambda: NOW, **options
        )
        self.commits: list[Sequence[NewWait]] = []
        self.looked_up: list[Sequence[IdempotentSubmit]] = []

    async def insert(
        self, new_waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence[Inserted | Exception]:
        answers = await super().insert(new_waits, by)
        self.commits.append(new_waits)
        return answers

    async def find_replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        self.looked_up.append(submits)
        return await super().find_replays(submits)

    async def set_writable(self, writable: bool) -> None:
        """While it is not writable, SQLite refuses every change."""
        async with self._database.reading() as connection:
            await connection.fetch_all(f"PRAGMA query_only = {not writable}")

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Lets every other read and write wait for the end of the block."""
        async with self._database.writing():
            yield

    async def end(self, wait_id: str, outcome: Outcome = SUCCESS) -> None:
        """Ends a wait as the poker does."""
        assert await self.finish(UnstoredOutcome(WaitId(wait_id), Progress(), outcome, NOW + 60))


#: Few enough that a test can open them all.
MAX_CONNECTIONS = 40


class ApiServer(TestServer):
    """A test server that runs the application as the daemon does."""

    def __init__(self, application: web.Application, instruments: Instruments) -> None:
        super().__init__(application)
        self.instruments = instruments

    async def _make_runner(self, **_: Any) -> ApiRunner:
        return ApiRunner(self.app, instruments=self.instruments, max_connections=MAX_CONNECTIONS)


@dataclass
class Api:
    """The API under test, and the fakes behind it."""

    client: TestClient[Any, Any]
    dependencies: ApiDependencies
    store: WatchedStore
    poking: FakePoking
    connections: CachedConnections
    health: FakeHealth
    scrapes: list[int]

    async def post(self, path: str, body: Any = None, **headers: str) -> ClientResponse:
        """POSTs `body` as JSON; names of headers have underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes | BytesIO) else orjson.dumps(body)
        typed = {} if data is None else {"Content-Type": "application/json"}
        # An empty payload and no Content-Type is what `curl -X POST` sends.
        skip = () if data is not None else ("Content-Type",)
        return await self.client.post(path, data=data, headers={**typed, **named}, skip_auto_headers=skip)

    async def batch(self, *lines: Any, **headers: str) -> ClientResponse:
        """POSTs the lines as NDJSON; bytes are sent as they are."""
        body = b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)
        return await self.post(
            "/v1/waits:batch", BytesIO(body), Content_Type="application/x-ndjson", **headers
        )

    async def submit(self, who: str | None = None, **fields: Any) -> str:
        """Submits a wait; returns its id."""
        response = await self.post("/v1/waits", wait(**fields), **bearer(who))
        assert response.status == 201, await response.text()
        return str((await response.json())["id"])

    async def get(self, path: str, who: str | None = None, **query: str) -> Any:
        """Returns the JSON at `path`."""
        response = await self.client.get(path, params=query, headers=bearer(who))
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()

    async def pages(self, path: str, items: str, who: str | None = None, **query: str) -> list[list[Any]]:
        """Returns the `items` of every page."""
        pages = []
        while True:
            page = await self.get(path, who, **query)
            pages.append(page[items])
            if page["next_page_token"] is None:
                return pages
            query["page_token"] = page["next_page_token"]


def bearer(who: str | None) -> dict[str, str]:
    """Returns the header with a token: that of a name in `TOKENS`, or `who` itself."""
    return {} if who is None else {"Authorization": f"Bearer {TOKENS.get(who, who)}"}


def wait(**fields: Any) -> dict[str, Any]:
    """Returns a valid body, changed by `fields`."""
    return {"kind": "plain", "params": {"endpoint": "http://127.0.0.1:1/job"}, **fields}


@asynccontextmanager
async def connected(api: Api, **options: Any) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Opens a connection to the API, for requests that no HTTP client sends.

    The block fails after `PATIENCE` seconds.
    """
    async with asyncio.timeout(PATIENCE), open_connection(api.client.port, **options) as streams:
        yield streams


async def raw(api: Api, request: bytes) -> bytes:
    """Sends bytes and returns everything until the server closes the connection."""
    async with connected(api) as (reader, writer):
        writer.write(request)
        return await reader.read()


async def until(condition: Callable[[], bool]) -> None:
    """Runs the event loop until the condition holds. Fails after `PATIENCE` seconds."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "the condition does not hold"
        await asyncio.sleep(0)
