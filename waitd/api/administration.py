"""The lines of the route table for admins: API keys, and the audit."""

from collections.abc import Sequence

from waitd.api import queries
from waitd.api.handlers.audit import Audit
from waitd.api.handlers.keys import Keys
from waitd.api.routing import NO_FIELDS, Answer, Body, Route
from waitd.core.auth.principal import Role
from waitd.models import ChangeList, KeyList, KeyRequest, KeyView, MadeKeyView

_TAG = "administration"


def administration(keys: Keys, audit: Audit) -> Sequence[Route]:
    """Every route that takes an admin."""
    return (
        Route(
            "POST",
            "/v1/keys",
            keys.create,
            Role.ADMIN,
            "createKey",
            _TAG,
            "Make an API key; it is shown in this answer and never again",
            (Answer(201, "The key.", (MadeKeyView,)),),
            ("conflict",),
            body=Body(
                "What it may do, and where.",
                (KeyRequest,),
                example={"role": "submitter", "namespace": "team_a", "expires_in": 7776000},
            ),
            action="create_key",
        ),
        Route(
            "GET",
            "/v1/keys",
            keys.find,
            Role.ADMIN,
            "listKeys",
            _TAG,
            "Every API key, newest first, without its secret",
            (Answer(200, "All of them.", (KeyList,)),),
        ),
        Route(
            "POST",
            "/v1/keys/{id:[^/:]+}:revoke",
            keys.revoke,
            Role.ADMIN,
            "revokeKey",
            _TAG,
            "Revoke an API key: from now on nobody comes in with it",
            (Answer(200, "The key.", (KeyView,)),),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="revoke_key",
        ),
        Route(
            "GET",
            "/v1/audit",
            audit.find,
            Role.ADMIN,
            "listChanges",
            _TAG,
            "Who changed what, newest first",
            (Answer(200, "A page.", (ChangeList,)),),
            parameters=(
                queries.PRINCIPAL,
                queries.ACTION,
                queries.SUBJECT,
                queries.LIMIT,
                queries.PAGE_TOKEN,
            ),
        ),
    )
