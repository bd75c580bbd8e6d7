"""API keys over HTTP, for admins: make one, list them, revoke one. A key's token is shown once, in the answer that made it."""

from typing import Any

from aiohttp import web

from waitd.api.handlers.audit import SUBJECT, caller_of
from waitd.api.requests import expect_no_fields, json_response
from waitd.api.server.bodies import decoded, read_body
from waitd.api.services import Services
from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import ROLES_BY_NAME, check_key_namespace
from waitd.core.errors import InvalidInput
from waitd.core.waits.event import rfc3339
from waitd.models import KeyRequest, parsed
from waitd.ports import NewKey


class Keys:
    """The handlers of `/v1/keys…`."""

    def __init__(self, services: Services) -> None:
        self._keyring = services.keyring
        self._now = services.now

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys`: 201 with the key and its token, which nobody sees again."""
        wanted = parsed(KeyRequest, decoded(await read_body(request)))
        try:
            namespace = check_key_namespace(wanted.namespace, ROLES_BY_NAME[wanted.role])
        except ValueError as error:
            raise InvalidInput.at("/namespace", str(error)) from None
        made = await self._keyring.create(
            NewKey(ROLES_BY_NAME[wanted.role], namespace, wanted.expires_in), caller_of(request)
        )
        request[SUBJECT] = made.key.id
        no_store = {"Cache-Control": "no-store"}
        return json_response({**self._view(made.key), "key": made.token}, 201, no_store)

    async def find(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - a handler's shape
        """`GET /v1/keys`: all of them, newest first; their number is bounded."""
        return json_response({"keys": [self._view(key) for key in self._keyring.every()]})

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys/{id}:revoke`: 200 with the key; from now on nobody comes in with it."""
        await expect_no_fields(request)
        return json_response(
            self._view(await self._keyring.revoke(request.match_info["id"], caller_of(request)))
        )

    def _view(self, key: ApiKey) -> dict[str, Any]:
        """In the shape of `KeyView`."""
        return {
            "id": key.id,
            "role": key.role.title,
            "namespace": key.namespace,
            "state": key.why_not(self._now()) or "active",
            "created_at": rfc3339(key.created_at),
            "created_by": key.created_by,
            "expires_at": _time(key.expires_at),
            "revoked_at": _time(key.revoked_at),
            "used_at": _time(key.used_at),
        }


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
