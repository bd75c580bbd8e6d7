"""Audit entries: who changed what."""

from typing import NamedTuple

from waitd.core.auth.principal import Principal


class Caller(NamedTuple):
    """A principal and the address of its end of the connection; "" if the address is unknown."""

    principal: Principal
    remote: str


class AuditEntry(NamedTuple):
    """A change, or an attempt at one that the target's state or namespace forbade.

    Attributes:
        at: Unix seconds.
        principal: the caller's name.
        role: the caller's role at that time.
        namespace: the caller's namespace at that time.
        remote: the caller's address.
        action: `submit`, `cancel`, `poke`, `redeliver`, `signal`, `create_key` or `revoke_key`.
        subject: the id of the wait or API key, or the signal's key; None for several, or none.
        subjects: the number of waits, deliveries or keys.
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
    """The audit entry of an action; the arguments are its attributes."""
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
