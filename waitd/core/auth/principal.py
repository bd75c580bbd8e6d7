"""Who calls the API, and what that one may do. The roles are ranks: each may do all that those below it may."""

import re
from dataclasses import dataclass
from enum import IntEnum

#: The namespace of whoever names none.
DEFAULT_NAMESPACE = "default"
#: In place of a namespace: a viewer of all of them.
ALL_NAMESPACES = "*"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Role(IntEnum):
    """What a principal may do, within its namespace unless it is an admin.

    A viewer reads waits and their outcomes, and one of all namespaces the daemon's figures. A submitter also submits and cancels. An
    operator also pokes, redelivers and sees all deliveries. An admin does so in every namespace, makes and revokes API keys, and reads
    the audit and the figures.
    """

    VIEWER = 1
    SUBMITTER = 2
    OPERATOR = 3
    ADMIN = 4

    @property
    def title(self) -> str:
        """Its name as people write it: `viewer`."""
        return self.name.lower()


#: By their names as people write them.
ROLES_BY_NAME = {role.title: role for role in Role}


@dataclass(frozen=True, slots=True)
class Principal:
    """One who calls.

    Attributes:
        name: who it is, stable and without secrets: `key:<id>`, `oidc:<subject>`, `loopback`.
        role: what it may do.
        namespace: where what it submits belongs, and (but for an admin) all that it sees; `*`: a viewer that sees all of them.
    """

    name: str
    role: Role
    namespace: str = DEFAULT_NAMESPACE

    @property
    def sees(self) -> str | None:
        """The namespace that bounds what it sees; None: it sees all of them."""
        return None if self.role is Role.ADMIN or self.namespace == ALL_NAMESPACES else self.namespace

    def may(self, role: Role) -> bool:
        """Whether it may do what takes this role."""
        return self.role >= role


#: Whoever reaches a daemon that listens on loopback and asks for no authentication.
LOOPBACK_PRINCIPAL = Principal("loopback", Role.ADMIN)


def check_namespace(text: str) -> str:
    """The text, if it can name a namespace.

    Raises:
        ValueError: it cannot.
    """
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(
            "a namespace has 1 to 63 letters, digits and . _ -, and begins with a letter or a digit"
        )
    return text


def check_key_namespace(text: str, role: Role) -> str:
    """The text, if a key of this role can have it for a namespace: one's name, or `*` for a viewer of all.

    Raises:
        ValueError: it cannot.
    """
    if text == ALL_NAMESPACES:
        if role is not Role.VIEWER:
            raise ValueError("* is for a viewer: what others submit or change belongs to one namespace")
        return text
    return check_namespace(text)
