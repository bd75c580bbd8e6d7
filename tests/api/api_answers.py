"""What the answers of the API contain."""

from typing import Any

import orjson
from aiohttp import ClientResponse

from waitd.api.problems import PROBLEM_KINDS


async def lines_of(response: ClientResponse) -> list[dict[str, Any]]:
    """Returns the answer lines of a batch."""
    return [orjson.loads(line) for line in (await response.read()).splitlines()]


async def problem_of(response: ClientResponse, status: int, name: str) -> dict[str, Any]:
    """Returns the problem of a response, after checking its form."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = orjson.loads(text)
    assert problem["type"] == f"/problems/{name}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert PROBLEM_KINDS[name].retry_after is None or int(response.headers["Retry-After"]) > 0
    return problem


async def pointers_of(response: ClientResponse) -> list[str]:
    """Returns the fields that a 422 names."""
    return [error["pointer"] for error in (await problem_of(response, 422, "invalid-input"))["errors"]]
