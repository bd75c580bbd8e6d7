"""What a wait names, held against what its namespace may name."""

from collections.abc import Iterator, Mapping
from typing import Any

from waitd.core.auth.namespaces import NamespaceRules
from waitd.core.errors import Problem
from waitd.models import pointer
from waitd.ports import SinkTarget, Target

_CONN_ID = "conn_id"


class NamespacePolicy:
    """The rules of one namespace, asked about one wait."""

    def __init__(self, namespace: str, rules: NamespaceRules) -> None:
        self._namespace = namespace
        self._rules = rules

    def named_connections(self, place: str, params: Mapping[str, Any]) -> Iterator[Problem]:
        """What is wrong with the connections that the fields of `params`, which stand at `place`, name.

        Asked before anybody looks such a connection up: whether it exists is no business of those who may not name it.
        """
        for name, value in params.items():
            if name.endswith(_CONN_ID) and isinstance(value, str) and not self._rules.may_use(value):
                yield self._refused(place + pointer([name]), f"the connection {value!r}", "conn_ids")

    def of_target(self, place: str, target: Target | SinkTarget) -> Iterator[Problem]:
        """What is wrong with what a parsed target uses without naming it: `aws_default`, or the environment's own account."""
        yield from self.of_connection(place, getattr(target, "account", target.conn_id))

    def of_connection(self, place: str, conn_id: str | None) -> Iterator[Problem]:
        """What is wrong with a connection that is used."""
        if conn_id is not None and not self._rules.may_use(conn_id):
            yield self._refused(place, f"the connection {conn_id!r}", "conn_ids")

    def of_sink(self, place: str, target: SinkTarget) -> Iterator[Problem]:
        """The same of a parsed sink, and what is wrong with its host and its DAG."""
        yield from self.of_target(place, target)
        host = getattr(target, "host", None)
        if host is not None and not self._rules.may_send_to(host):
            yield self._refused(place + "/url", f"the host {host!r}", "sink_hosts")
        if hasattr(target, "dag_id") and not self._rules.may_tell(target.dag_id):
            what = "a sink without a dag_id" if target.dag_id is None else f"the DAG {target.dag_id!r}"
            yield self._refused(place + "/dag_id", what, "dag_ids")

    def _refused(self, where: str, what: str, rule: str) -> Problem:
        return Problem(
            where,
            f"the namespace {self._namespace} may not name {what}: it is not among its {rule} (setting namespaces)",
        )
