"""API keys over HTTP, for admins.

The secret of a key is shown once, in the answer that created it.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from waitd.api import queries
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.audit import SUBJECT, caller_of
from waitd.api.handlers.lists import Lists, Page
from waitd.api.server.bodies import json_response, read_json, read_no_fields
from waitd.api.views import optional_time
from waitd.core.auth.api_key import MAX_KEYS, ApiKey
from waitd.core.auth.principal import ROLES_BY_NAME, check_key_namespace
from waitd.core.errors import InvalidInput
from waitd.core.waits.event import rfc3339
from waitd.models import KeyRequest, parse_model
from waitd.ports import NewKey


class KeyHandlers:
    """The handlers of `/v1/keys…`."""

    def __init__(self, dependencies: ApiDependencies, lists: Lists) -> None:
        self._lists = lists
        self._keyring = dependencies.keyring
        self._disk = dependencies.disk
        self._now = dependencies.now

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys`: 201 with the key and its secret, which is not shown again."""
        body = parse_model(KeyRequest, await read_json(request))
        role = ROLES_BY_NAME[body.role]
        try:
            namespace = check_key_namespace(body.namespace, role)
        except ValueError as error:
            raise InvalidInput.at("/namespace", str(error)) from None
        self._disk.take(0)
        created = await self._keyring.create(NewKey(role, namespace, body.expires_in), caller_of(request))
        request[SUBJECT] = created.key.id
        return json_response({**self._view(created.key), "key": created.token}, 201)

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/keys`: all keys, newest first, as many as fit into a page."""
        page = Page(
            find=self._older_than,
            key=lambda key: f"{key.created_at!r} {key.id}",
            view=self._view,
            before=queries.last_key(request.query),
            limit=MAX_KEYS,
        )
        return await self._lists.send_page(request, "keys", page)

    async def _older_than(self, before: str | None, limit: int) -> Sequence[ApiKey]:
        """Returns up to `limit` keys after the one that `before` names, which may be gone."""
        keys = self._keyring.every()
        if before is not None:
            created_at, _, key_id = before.partition(" ")
            last = float(created_at), key_id
            keys = [key for key in keys if (key.created_at, key.id) < last]
        return keys[:limit]

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys/{id}:revoke`: 200 with the key; it is refused from now on."""
        await read_no_fields(request)
        key = await self._keyring.revoke(request.match_info["id"], caller_of(request))
        return json_response(self._view(key))

    def _view(self, key: ApiKey) -> dict[str, Any]:
        """Returns the key in the form of `KeyView`."""
        return {
            "id": key.id,
            "role": key.role.title,
            "namespace": key.namespace,
            "state": key.invalid_reason(self._now()) or "active",
            "created_at": rfc3339(key.created_at),
            "created_by": key.created_by,
            "expires_at": optional_time(key.expires_at),
            "revoked_at": optional_time(key.revoked_at),
            "used_at": optional_time(key.used_at),
        }
