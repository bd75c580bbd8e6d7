"""The kind `sql`: runs a SELECT until conditions on its rows are true."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.http.answer import CredentialsRefused
from waitd.core.local_trouble import local_trouble, local_verdict
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import Connections, Pokeable, Probe
from waitd.probes.access.http import CONNECTION_ERRORS, connection_verdict
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.cel.judging import judge_each
from waitd.probes.cel.workers import WORKERS, worker_timeout
from waitd.probes.sql.endpoints import SqliteFile, sql_endpoint
from waitd.probes.sql.errors import sql_verdict, unreadable
from waitd.probes.sql.evaluation import evaluate
from waitd.probes.sql.params import Query, SqlParams, SqlTarget, sql_target
from waitd.probes.sql.pool import DatabasePools
from waitd.probes.sql.rows import MAX_ROWS, SelectedRows, masked
from waitd.probes.sql.sqlite import SqliteFiles
from waitd.probes.transport.errors import classify_error

_TOO_MANY = Unreachable("too_many_rows", f"More than {MAX_ROWS} rows; select fewer in sql.")
_TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for these rows.")

log = structlog.get_logger(__name__)


class SqlProbe(Probe):
    """Queries databases.

    Use it as an async context manager, which closes their connections at the end.
    """

    #: The model of its parameters in the OpenAPI document.
    params_model = SqlParams

    def __init__(
        self,
        connections: Connections,
        *,
        egress: EgressGuard | None = None,
        connections_per_database: int = 4,
    ) -> None:
        """`egress` enforces the egress rules; default: the rules that always apply."""
        self._connections = connections
        self._egress = egress or EgressGuard()
        self._pools = DatabasePools(connections_per_database, self._egress.tls)
        self._files = SqliteFiles()
        self._limiter = CapacityLimiter(WORKERS)

    async def __aenter__(self) -> Self:
        """Opens nothing: the first poke opens connections."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every connection."""
        await self._pools.close()

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> SqlTarget:
        """Returns the target of these parameters.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return sql_target(params, namespace=namespace)

    def origin(self, target: SqlTarget) -> str:
        """Returns the database if its connection is cached, else `connection <conn_id>`."""
        connection = self._connections.cached_any(target.conn_id)
        try:
            return f"connection {target.conn_id}" if connection is None else sql_endpoint(connection).origin
        except ValueError:
            return f"connection {target.conn_id}"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Runs one query for waits with equal keys; returns a verdict for each, in order."""
        targets: list[SqlTarget] = [pokeable.target for pokeable in group]
        query = targets[0].query
        deadline = asyncio.get_running_loop().time() + query.request_timeout
        max_rows = MAX_ROWS if any(_needs_rows(target.conditions) for target in targets) else 1
        selected = await self._select(query, max_rows, deadline)
        if not isinstance(selected, SelectedRows):
            return [selected] * len(targets)
        different = dict.fromkeys(target.conditions for target in targets)
        rows = selected
        verdicts = await judge_each(
            different, lambda conditions, sharers: self._evaluate(conditions, rows, deadline, sharers)
        )
        return [verdicts[target.conditions] for target in targets]

    async def try_connection(self, connection: Connection) -> str | None:
        """Asks a database for `SELECT 1`; returns why that fails, or None."""
        query = sql_target({"conn_id": connection.conn_id, "sql": "SELECT 1"}, namespace="default").query
        deadline = asyncio.get_running_loop().time() + query.request_timeout
        try:
            selected = await self._select_from(connection, query, 1, deadline)
        except CONNECTION_ERRORS as error:
            return connection_verdict(error).message
        if isinstance(selected, CredentialsRefused):
            return selected.verdict.message
        return None if isinstance(selected, SelectedRows) else selected.message

    async def _select(self, query: Query, max_rows: int, deadline: float) -> SelectedRows | Verdict:
        """Runs the query, and once again with a refreshed connection if the login is refused."""
        try:
            connection = await self._connections.get(query.conn_id)
            selected = await self._select_from(connection, query, max_rows, deadline)
            if isinstance(selected, CredentialsRefused):
                connection = await self._connections.refresh(query.conn_id)
                selected = await self._select_from(connection, query, max_rows, deadline)
        except CONNECTION_ERRORS as error:
            return connection_verdict(error)
        return selected.verdict if isinstance(selected, CredentialsRefused) else selected

    async def _select_from(
        self, connection: Connection, query: Query, max_rows: int, deadline: float
    ) -> SelectedRows | Verdict | CredentialsRefused:
        endpoint = sql_endpoint(connection)
        if isinstance(endpoint, SqliteFile):
            statement, parameters = query.positional
            return await self._files.select(endpoint.path, statement, parameters, max_rows, deadline)
        try:
            self._egress.check_host(endpoint.host, endpoint.port, HostSource.OPERATOR)
        except EgressRefused as error:
            return Unreachable("egress_refused", f"The egress rules refuse this database: {error.why}.")
        try:
            selected = await self._pools.select(connection, endpoint, query, max_rows)
            if not isinstance(selected, SelectedRows):
                return selected
            return masked(selected, connection, query.parameters)
        except Exception as error:  # noqa: BLE001 - an error of one database ends only the poke of its waits
            own = local_trouble(error)
            verdict = local_verdict(own) if own else sql_verdict(error) or classify_error(error)
            if isinstance(verdict, Unreachable) and verdict.reason == "probe_error":
                log.warning("poke_failed", error=type(error).__name__)
                return verdict if isinstance(error, MemoryError) else unreadable(error)
            return verdict

    async def _evaluate(
        self, conditions: ConditionSources, selected: SelectedRows, deadline: float, sharers: int
    ) -> Verdict:
        """`deadline` is in the loop's time. `sharers` evaluations share the remaining time."""
        if not _needs_rows(conditions):  # other waits of the group may have selected more
            selected = selected._replace(rows=selected.rows[:1], truncated=False)
        if selected.truncated:
            return _TOO_MANY
        try:
            async with worker_timeout(deadline - asyncio.get_running_loop().time(), sharers):
                return await evaluate(conditions, selected, self._limiter)
        except (TimeoutError, BrokenWorkerProcess, MemoryError):
            return _TOO_SLOW


def _needs_rows(conditions: ConditionSources) -> bool:
    """Whether a condition names `rows`; without any, the first cell decides."""
    return any(conditions)
