"""What the checks of one body find: problems, and connections that still have to be looked up."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from waitd.api.submission.namespace_policy import NamespacePolicy
from waitd.api.submission.sinks import ParsedSinks
from waitd.core.errors import ConnectionUnavailable, Problem, UnknownConnection
from waitd.models import pointer
from waitd.ports import Connections, Target


class NamedConnection(NamedTuple):
    """A conn_id that the cache does not hold, and the pointer to the field that names it."""

    conn_id: str
    pointer: str


class Findings(Struct, gc=False):
    """Collects everything that is wrong with one body, so that all of it is reported at once.

    Attributes:
        policy: the rules of the namespace; None if it has none.
        problems: what is wrong so far.
        uncached: connections that still have to be looked up.
    """

    connections: Connections
    policy: NamespacePolicy | None
    problems: list[Problem]
    uncached: list[NamedConnection] = []

    def refuses_params(self, path: str, params: Mapping[str, Any]) -> bool:
        """Whether `params`, at the pointer `path`, name a connection that is not allowed."""
        if self.policy is None:
            return False
        refused = [*self.policy.check_params(path, params)]
        self.problems += refused
        return bool(refused)

    def check_target(self, path: str, params: Mapping[str, Any], target: Target) -> None:
        """Checks what a target, parsed from `params`, names and uses."""
        if self.policy is not None:
            if self.refuses_params(path, params):
                return
            self.problems += self.policy.check_target(path, target)
        if target.conn_id is not None:
            self.note_connection(target.conn_id, path, params)

    def check_sinks(self, sinks: ParsedSinks) -> None:
        """Checks what parsed sinks use, and adds what is wrong with them."""
        for index, (params, target, error) in enumerate(sinks.sinks):
            path = f"/sinks/{index}"
            if self.refuses_params(path, params):
                continue
            if error is not None:
                self.problems += error.below(path).problems
            elif target is not None:
                if self.policy is not None:
                    self.problems += self.policy.check_sink(path, target)
                self.note_connection(target.conn_id, path, params)

    def check_connection(self, path: str, conn_id: str) -> None:
        """Checks that the namespace may use a connection."""
        if self.policy is not None:
            self.problems += self.policy.check_connection(path, conn_id)

    def note_connection(self, conn_id: str | None, path: str, params: Mapping[str, Any]) -> None:
        """Notes a connection that `params` name and the cache does not hold."""
        if conn_id is not None and self.connections.cached_any(conn_id) is None:
            self.uncached.append(NamedConnection(conn_id, path + _field_of(conn_id, params)))


def _field_of(conn_id: str, params: Mapping[str, Any]) -> str:
    """Returns the pointer to the field with the connection: each kind has its own (http_conn_id,
    aws_conn_id, …).
    """
    names = [name for name, value in params.items() if value == conn_id]
    likely = [name for name in names if name.endswith("conn_id")]
    return pointer([*likely, *names][:1])


async def find_unknown(connections: Connections, conn_ids: Iterable[str]) -> frozenset[str]:
    """Returns the `conn_ids` that no resolver knows.

    A connection whose resolver is down counts as known.
    """
    unknown = []
    for conn_id in set(conn_ids):
        try:
            await connections.get(conn_id)
        except UnknownConnection:
            unknown.append(conn_id)
        except ConnectionUnavailable:
            continue
    return frozenset(unknown)
