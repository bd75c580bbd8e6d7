"""Who changed what: the values of the audit."""

from typing import NamedTuple

from waitd.core.auth.principal import Principal


class Caller(NamedTuple):
    """Somebody who calls, and from where: the address of the other end of the connection, "" where it is not known."""

    principal: Principal
    remote: str


class AuditEntry(NamedTuple):
    """One line of the audit: a change, or an attempt at one that its target's state or place forbade.

    Attributes:
        at: Unix seconds.
        principal: the name of who did it; `role` and `namespace` are those it had then.
        action: `submit`, `cancel`, `poke`, `redeliver`, `signal`, `create_key`, `revoke_key`.
        subject: the id of the wait or key, the key of a signal; None where there are many, or none.
        subjects: how many waits, deliveries or keys it was about.
        result: `done`, `not_found` or `conflict`.
    """

    at: float
    principal: str
    role: str
    namespace: str
    remote: str
    action: str
    subject: str | None
    subjects: int
    result: str


def build_audit_entry(
    caller: Caller, at: float, action: str, subject: str | None, *, subjects: int = 1, result: str = "done"
) -> AuditEntry:
    """The line that tells of it."""
    principal = caller.principal
    return AuditEntry(
        at,
        principal.name,
        principal.role.title,
        principal.namespace,
        caller.remote,
        action,
        subject,
        subjects,
        result,
    )
