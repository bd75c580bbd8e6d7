"""What the waits of a namespace may name: connections, hosts of sinks, DAGs.

Where no namespace has rules, all of them may name everything. As soon as one has, a namespace without rules may name nothing, so that a
misspelt one opens no door; `*` has the rules of those that have none of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

#: Under this name stand the rules of namespaces that have none of their own.
OTHER_NAMESPACES = "*"


@dataclass(frozen=True, slots=True)
class NamespaceRules:
    """Patterns with `*`; what none of them matches may not be named.

    Attributes:
        conn_ids: connections, of waits and sinks; compared without regard to case, as environment variables are.
        sink_hosts: hosts that a sink names itself; those of connections are the operator's choice.
        dag_ids: DAGs that a sink tells.
    """

    conn_ids: tuple[str, ...] = ()
    sink_hosts: tuple[str, ...] = ()
    dag_ids: tuple[str, ...] = ()

    def may_use(self, conn_id: str) -> bool:
        """Whether the connection may be named."""
        wanted = conn_id.upper()
        return any(fnmatchcase(wanted, pattern.upper()) for pattern in self.conn_ids)

    def may_send_to(self, host: str) -> bool:
        """Whether a sink may name the host."""
        wanted = host.lower().rstrip(".")
        return any(fnmatchcase(wanted, pattern.lower()) for pattern in self.sink_hosts)

    def may_tell(self, dag_id: str | None) -> bool:
        """Whether a sink may tell the DAG; None: it does not say which, so only those who may tell any."""
        if dag_id is None:
            return OTHER_NAMESPACES in self.dag_ids
        return any(fnmatchcase(dag_id, pattern) for pattern in self.dag_ids)


_NOTHING = NamespaceRules()


class Namespaces:
    """The rules of all namespaces."""

    def __init__(self, rules: Mapping[str, NamespaceRules] | None = None) -> None:
        self._rules = dict(rules or {})

    def rules(self, namespace: str) -> NamespaceRules | None:
        """What its waits may name; None: everything."""
        if not self._rules:
            return None
        return self._rules.get(namespace) or self._rules.get(OTHER_NAMESPACES) or _NOTHING
