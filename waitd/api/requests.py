"""What handlers ask about a request, and how they answer it."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from waitd.api.problems import refusal
from waitd.api.server.bodies import decoded, read_body
from waitd.api.server.loopback_guard import JSON
from waitd.api.services import Health
from waitd.core.errors import InvalidInput, Problem
from waitd.models import pointer


def refuse_while_draining(health: Health) -> None:
    """Nothing new comes in while the daemon stops.

    Raises:
        ProblemError: 503 with Retry-After.
    """
    if health.draining:
        raise refusal("draining", "send it again in a moment; nothing was stored")


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`body` as JSON; bytes are JSON already."""
    encoded = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(status=status, body=encoded, headers={"Content-Type": JSON, **(headers or {})})


async def expect_no_fields(request: web.Request) -> None:
    """An action takes no body, or an empty object; fields that it does not know are refused by name. Raises InvalidInput."""
    body = await read_body(request)
    fields = decoded(body) if body else {}
    if not isinstance(fields, dict):
        raise InvalidInput.at("", "send no body, or an empty JSON object")
    if fields:
        raise InvalidInput(Problem(pointer([name]), "unknown field; this call takes none") for name in fields)
