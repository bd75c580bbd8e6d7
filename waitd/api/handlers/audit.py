"""The audit: a log line for each call that changes something, and the list of stored entries.

The store writes an entry in the transaction of its change.
"""

import structlog
from aiohttp import web

from waitd.api import queries
from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.lists import Lists, Page
from waitd.api.server.refusal_log import RefusalLog
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.waits.audit import Caller
from waitd.core.waits.event import rfc3339

log = structlog.get_logger(__name__)

#: A request carries the id of what it changed under this key, unless its path has the id.
SUBJECT = web.RequestKey("SUBJECT", str)
#: And under this key, how many waits, deliveries or keys it changed.
SUBJECTS = web.RequestKey("SUBJECTS", int)


#: The result of a change that was made.
DONE = "done"


def caller_of(request: web.Request) -> Caller:
    """Returns the caller and its address, for the audit."""
    return Caller(request[PRINCIPAL], request.remote or "")


def log_change(request: web.Request, action: str, result: str, refusals: RefusalLog) -> None:
    """Logs a call that changes something; `result` is `done` or the name of the problem.

    Without authentication, the line has the level debug.
    """
    principal = request[PRINCIPAL]
    write = log.debug if principal is LOOPBACK_PRINCIPAL else log.info
    fields = {
        "action": action,
        "principal": principal.name,
        "role": principal.role.title,
        "namespace": principal.namespace,
        "subject": request.get(SUBJECT) or request.match_info.get("id"),
        "subjects": request.get(SUBJECTS, 1),
        "result": result,
        "remote": request.remote,
    }
    if result == DONE:
        write("audit", **fields)
    else:
        refusals.log((principal.name, action, result), write, "audit", **fields)


class AuditHandlers:
    """The handler of `GET /v1/audit`."""

    def __init__(self, dependencies: ApiDependencies, lists: Lists) -> None:
        self._store = dependencies.store
        self._lists = lists

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/audit`: a page of entries, newest first, and the token of the next page."""
        query = queries.audit_filter(request.query)
        page = Page(
            find=lambda before, limit: self._store.find_audit(query._replace(before=before, limit=limit)),
            key=lambda stored: stored.number,
            view=lambda stored: {**stored.entry._asdict(), "at": rfc3339(stored.entry.at)},
            before=query.before,
            limit=query.limit,
        )
        return await self._lists.send_page(request, "changes", page)
