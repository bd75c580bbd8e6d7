"""What the waits of a namespace may use: connections, sink hosts, DAGs.

Without any rules, every namespace may use everything. As soon as one namespace has rules, a
namespace without rules may use nothing, so that a misspelled name grants no access. The rules under
`*` apply to every namespace that has no rules itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

#: The rules under this name apply to namespaces without rules of their own.
OTHER_NAMESPACES = "*"


@dataclass(frozen=True, slots=True)
class NamespaceRules:
    """Patterns with `*`. What matches none of them is not allowed.

    Attributes:
        conn_ids: connections of waits and sinks; case is ignored, as in environment variables.
        sink_hosts: hosts that a sink names itself; a connection's host is the operator's choice.
        dag_ids: DAGs to which a sink delivers.
    """

    conn_ids: tuple[str, ...] = ()
    sink_hosts: tuple[str, ...] = ()
    dag_ids: tuple[str, ...] = ()

    def allows_connection(self, conn_id: str) -> bool:
        """Whether a wait or sink may use the connection."""
        name = conn_id.upper()
        return any(fnmatchcase(name, pattern.upper()) for pattern in self.conn_ids)

    def allows_host(self, host: str) -> bool:
        """Whether a sink may name the host."""
        name = host.lower().rstrip(".")
        return any(fnmatchcase(name, pattern.lower()) for pattern in self.sink_hosts)

    def allows_dag(self, dag_id: str | None) -> bool:
        """Whether a sink may deliver to the DAG.

        A sink that names none (None) needs the pattern `*`.
        """
        if dag_id is None:
            return OTHER_NAMESPACES in self.dag_ids
        return any(fnmatchcase(dag_id, pattern) for pattern in self.dag_ids)


_NOTHING = NamespaceRules()


class Namespaces:
    """The rules of all namespaces."""

    def __init__(self, rules: Mapping[str, NamespaceRules] | None = None) -> None:
        self._rules = dict(rules or {})

    def rules(self, namespace: str) -> NamespaceRules | None:
        """The rules of a namespace; None if it may use everything."""
        if not self._rules:
            return None
        return self._rules.get(namespace) or self._rules.get(OTHER_NAMESPACES) or _NOTHING
