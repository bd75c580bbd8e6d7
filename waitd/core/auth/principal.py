"""Who calls the API, and what the caller may do. Each role includes the ones below it."""

import re
from dataclasses import dataclass
from enum import IntEnum

#: The namespace of a principal that names none.
DEFAULT_NAMESPACE = "default"
#: In place of a namespace: a viewer of all namespaces.
ALL_NAMESPACES = "*"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Role(IntEnum):
    """What a principal may do. Except for an admin, a role is limited to the principal's namespace.

    A viewer reads waits and their outcomes; a viewer of all namespaces also reads the daemon's
    metrics. A submitter also submits and cancels waits. An operator also pokes waits, redelivers
    events and reads all deliveries. An admin acts in every namespace, creates and revokes API keys,
    and reads the audit log and the metrics.
    """

    VIEWER = 1
    SUBMITTER = 2
    OPERATOR = 3
    ADMIN = 4

    @property
    def title(self) -> str:
        """The name as users write it, such as `viewer`."""
        return self.name.lower()


ROLES_BY_NAME = {role.title: role for role in Role}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        name: a stable name without secrets: `key:<id>`, `oidc:<subject>` or `loopback`.
        role: what the caller may do.
        namespace: the namespace of the waits that it submits and, unless it is an admin, of
            everything that it sees; `*` for a viewer of all namespaces.
    """

    name: str
    role: Role
    namespace: str = DEFAULT_NAMESPACE

    @property
    def visible_namespace(self) -> str | None:
        """The only namespace that the principal sees; None if it sees all of them."""
        return None if self.role is Role.ADMIN or self.namespace == ALL_NAMESPACES else self.namespace

    def has_role(self, role: Role) -> bool:
        """Whether the principal has at least this role."""
        return self.role >= role


#: The caller of a daemon that listens on loopback without authentication.
LOOPBACK_PRINCIPAL = Principal("loopback", Role.ADMIN)


def check_namespace(text: str) -> str:
    """Returns `text` if it is a valid name of a namespace.

    Raises:
        ValueError: it is not.
    """
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(
            "a namespace has 1 to 63 letters, digits and . _ -, and begins with a letter or a digit"
        )
    return text


def check_key_namespace(text: str, role: Role) -> str:
    """Returns `text` if an API key of this role may have it: a name, or `*` for a viewer of all.

    Raises:
        ValueError: it may not.
    """
    if text == ALL_NAMESPACES:
        if role is not Role.VIEWER:
            raise ValueError("* is for a viewer: what others submit or change belongs to one namespace")
        return text
    return check_namespace(text)
