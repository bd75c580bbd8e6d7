"""Audit entries."""

from waitd.core.auth.principal import Principal, Role
from waitd.core.waits.audit import AuditEntry, Caller, build_audit_entry


def test_an_entry_has_the_caller_its_address_and_the_action() -> None:
    caller = Caller(Principal("key:k1", Role.OPERATOR, "team_a"), "192.0.2.7")
    assert build_audit_entry(caller, 1000.0, "poke", "01a1") == AuditEntry(
        *(1000.0, "key:k1", "operator", "team_a", "192.0.2.7"), "poke", "01a1", 1, "done"
    )
    many = build_audit_entry(caller, 1000.0, "redeliver", None, subjects=3, result="conflict")
    assert (many.subject, many.subjects, many.result) == (None, 3, "conflict")
