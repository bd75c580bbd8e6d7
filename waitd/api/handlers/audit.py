"""The audit over HTTP: the line that each call which changes something leaves in the log, and the list of what is stored.

What is stored is written by the store, in the transaction of the change.
"""

import structlog
from aiohttp import web

from waitd.api import queries
from waitd.api.callers import PRINCIPAL, principal_of
from waitd.api.requests import json_response
from waitd.api.services import Services
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.waits.audit import Caller
from waitd.core.waits.event import rfc3339
from waitd.ports import StoredAuditEntry

log = structlog.get_logger(__name__)

#: Under this key a request carries what it was about, where its path does not say so.
SUBJECT = web.RequestKey("SUBJECT", str)
#: Under this key, how many waits, deliveries or keys.
SUBJECTS = web.RequestKey("SUBJECTS", int)


def caller_of(request: web.Request) -> Caller:
    """Who calls, and from where, for the audit."""
    return Caller(principal_of(request), request.remote or "")


def tell_change(request: web.Request, action: str, result: str) -> None:
    """The log line of a call that changes something: it went through (`done`), or the problem's name.

    Where nobody is asked who he is, it is one for debugging.
    """
    principal = request[PRINCIPAL]
    tell = log.debug if principal is LOOPBACK_PRINCIPAL else log.info
    tell(
        "audit",
        action=action,
        principal=principal.name,
        role=principal.role.title,
        namespace=principal.namespace,
        subject=request.get(SUBJECT) or request.match_info.get("id"),
        subjects=request.get(SUBJECTS, 1),
        result=result,
        remote=request.remote,
    )


class Audit:
    """The handler of `GET /v1/audit`."""

    def __init__(self, services: Services) -> None:
        self._store = services.store

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/audit`: a page of changes, newest first, and the token of the next page."""
        wanted = queries.audit_filter(request.query)
        found = await self._store.find_audit(wanted._replace(limit=wanted.limit + 1))
        page = found[: wanted.limit]
        token = queries.page_token(str(page[-1].number)) if len(found) > wanted.limit else None
        return json_response({"changes": [_view(stored) for stored in page], "next_page_token": token})


def _view(stored: StoredAuditEntry) -> dict[str, object]:
    told = stored.change
    return {**told._asdict(), "at": rfc3339(told.at)}
