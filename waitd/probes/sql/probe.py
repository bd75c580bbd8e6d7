"""The kind `sql`: a row appears in a database."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.ports import Connections, Pokeable, Probe
from waitd.probes.access.http import NO_CREDENTIALS, UNKNOWN_CONNECTION
from waitd.probes.cel.workers import WORKERS
from waitd.probes.sql.endpoints import sql_endpoint
from waitd.probes.sql.errors import verdict_of_error
from waitd.probes.sql.evaluation import ConditionSources, SelectedRows, evaluate
from waitd.probes.sql.params import Query, SqlParams, SqlTarget, sql_target
from waitd.probes.sql.pool import MAX_ROWS, DatabasePools
from waitd.probes.transport.errors import classify_error

#: A worker gets this share of the time that is left, so that its verdict comes before the caller's patience ends.
_SHARE = 0.9

_TOO_MANY = Unreachable("too_many_rows", f"More than {MAX_ROWS} rows; ask for fewer in sql.")
_TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for these rows.")

log = structlog.get_logger(__name__)


class SqlProbe(Probe):
    """Asks databases. An asynchronous context, which closes the connections to them at its end."""

    #: What the API's document shows of its parameters.
    params_model = SqlParams

    def __init__(
        self,
        connections: Connections,
        *,
        outgoing: Outgoing | None = None,
        connections_per_database: int = 4,
    ) -> None:
        """`outgoing` holds the egress rules, default: those that always hold."""
        self._connections = connections
        self._outgoing = outgoing or Outgoing()
        self._databases = DatabasePools(connections_per_database)
        self._limiter = CapacityLimiter(WORKERS)

    async def __aenter__(self) -> Self:
        """Opens nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every connection."""
        await self._databases.close()

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> SqlTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return sql_target(params, namespace=namespace)

    def origin(self, target: SqlTarget) -> str:
        """The database where it is known, else `connection <conn_id>`."""
        connection = self._connections.cached_any(target.conn_id)
        try:
            return f"connection {target.conn_id}" if connection is None else sql_endpoint(connection).origin
        except ValueError:
            return f"connection {target.conn_id}"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One query on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        targets: list[SqlTarget] = [pokeable.target for pokeable in group]
        query = targets[0].query
        give_up = asyncio.get_running_loop().time() + query.request_timeout
        most = MAX_ROWS if any(target.sources.needs_rows for target in targets) else 1
        seen = await self._look(query, most)
        if not isinstance(seen, SelectedRows):
            return [seen] * len(targets)
        different = dict.fromkeys(target.sources for target in targets)
        verdicts = {
            sources: await self._judged(sources, seen, give_up, len(different) - index)
            for index, sources in enumerate(different)
        }
        return [verdicts[target.sources] for target in targets]

    async def _look(self, query: Query, most: int) -> SelectedRows | Verdict:
        """The rows; where the login is refused, they are asked for once more, with one that was looked up afresh."""
        try:
            connection = await self._connections.get(query.conn_id)
            seen = await self._asked(connection, query, most)
            if isinstance(seen, CredentialsRefused):
                connection = await self._connections.refreshed(query.conn_id)
                seen = await self._asked(connection, query, most)
        except UnknownConnection:
            return UNKNOWN_CONNECTION
        except ConnectionUnavailable:
            return NO_CREDENTIALS
        return seen.verdict if isinstance(seen, CredentialsRefused) else seen

    async def _asked(
        self, connection: Connection, query: Query, most: int
    ) -> SelectedRows | Verdict | CredentialsRefused:
        try:
            place = sql_endpoint(connection)
            if place.host is not None and place.port is not None:
                self._outgoing.judge_host(place.host, place.port, HostSource.BY_OPERATOR)
        except EgressRefused as error:
            return Unreachable("egress_refused", f"No query may go there: {error.why}.")
        except ValueError as error:
            return Unreachable("connection_invalid", f"The connection cannot be used for this wait: {error}.")
        try:
            return await self._databases.ask(connection, place, query, most)
        except Exception as error:  # noqa: BLE001 - whatever a database brings about is its own waits' verdict
            verdict = verdict_of_error(error) or classify_error(error)
            if isinstance(verdict, Unreachable) and verdict.reason == "probe_error":
                log.warning("poke_failed", error=type(error).__name__)
            return verdict

    async def _judged(
        self, sources: ConditionSources, seen: SelectedRows, give_up: float, sharers: int
    ) -> Verdict:
        if not sources.needs_rows:  # whatever others who ask the same look at
            seen = seen._replace(rows=seen.rows[:1], cut=False)
        if seen.cut:
            return _TOO_MANY
        left = (give_up - asyncio.get_running_loop().time()) * _SHARE / sharers
        try:
            async with asyncio.timeout(max(left, 0.0)):
                return await evaluate(sources, seen, self._limiter)
        except (TimeoutError, BrokenWorkerProcess, MemoryError):
            return _TOO_SLOW
