"""Checks what a wait uses against the rules of its namespace: connections, hosts of sinks, DAGs."""

from collections.abc import Iterator, Mapping
from typing import Any

from waitd.core.auth.namespaces import NamespaceRules
from waitd.core.errors import Problem
from waitd.models import pointer
from waitd.ports import SinkTarget, Target

_CONN_ID = "conn_id"


class NamespacePolicy:
    """The rules of one namespace, applied to one wait."""

    def __init__(self, namespace: str, rules: NamespaceRules) -> None:
        self._namespace = namespace
        self._rules = rules

    def check_params(self, path: str, params: Mapping[str, Any]) -> Iterator[Problem]:
        """Yields the connections in `params`, at the pointer `path`, that are not allowed.

        Call this before anything looks the connections up: a caller that must not name a connection
        must not learn whether it exists.
        """
        for name, value in params.items():
            if (
                name.endswith(_CONN_ID)
                and isinstance(value, str)
                and value  # an empty one means none
                and not self._rules.allows_connection(value)
            ):
                yield self._problem(path + pointer([name]), f"the connection {value!r}", "conn_ids")

    def check_target(self, path: str, target: Target | SinkTarget) -> Iterator[Problem]:
        """Yields what a target must not use implicitly, such as the environment's account."""
        yield from self.check_connection(path, getattr(target, "account", target.conn_id))

    def check_connection(self, path: str, conn_id: str | None) -> Iterator[Problem]:
        """Yields a problem if the connection must not be used."""
        if conn_id is not None and not self._rules.allows_connection(conn_id):
            yield self._problem(path, f"the connection {conn_id!r}", "conn_ids")

    def check_sink(self, path: str, target: SinkTarget) -> Iterator[Problem]:
        """Yields what a parsed sink must not use: its account, its host or its DAG."""
        yield from self.check_target(path, target)
        host = getattr(target, "host", None)
        if host is not None and not self._rules.allows_host(host):
            yield self._problem(path + "/url", f"the host {host!r}", "sink_hosts")
        if hasattr(target, "dag_id") and not self._rules.allows_dag(target.dag_id):
            what = "a sink without a dag_id" if target.dag_id is None else f"the DAG {target.dag_id!r}"
            yield self._problem(path + "/dag_id", what, "dag_ids")

    def _problem(self, path: str, what: str, rule: str) -> Problem:
        return Problem(
            path,
            f"the namespace {self._namespace} may not name {what}: it is not among its {rule} (setting namespaces)",
        )
