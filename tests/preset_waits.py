"""Submits waits to a daemon over its API, and reads them."""

import json
from collections.abc import Callable
from typing import Any

import aiohttp
from daemon import Daemon, until


async def post(url: str, body: Any = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as client, client.post(url, json=body or {}) as answer:
        return answer.status, await answer.json(content_type=None)


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        text = await answer.text()
        return json.loads(text) if text.startswith("{") else text


async def submit_wait(served: Daemon, **body: Any) -> Any:
    """Submits a wait and returns it."""
    status, wait = await post(f"{served.url}/v1/waits", body)
    assert status == 201, wait
    return wait


async def cancel(served: Daemon, wait: dict[str, Any]) -> None:
    status, answer = await post(f"{served.url}/v1/waits/{wait['id']}:cancel")
    assert status == 200, answer


async def wait_until_ended(served: Daemon, wait: dict[str, Any], seconds: float = 60) -> Any:
    """Returns the wait when it has ended."""
    return await wait_until(served, wait, lambda now: now["state"] != "waiting", seconds)


async def wait_until(
    served: Daemon, wait: dict[str, Any], condition: Callable[[Any], bool], seconds: float = 60
) -> Any:
    """Returns the wait when the condition holds."""
    now: Any = wait

    async def holds() -> bool:
        nonlocal now
        now = await get(f"{served.url}/v1/waits/{wait['id']}")
        return condition(now)

    await until(holds, seconds, "the wait's end")
    return now


def last_verdict_is(reason: str, word: str = "") -> Callable[[Any], bool]:
    """A condition: the wait's last verdict has this reason, and this word in its message."""

    def matches(wait: Any) -> bool:
        last = wait["last_verdict"] or {"reason": "", "message": ""}
        return bool(last["reason"] == reason and word in (last["message"] or ""))

    return matches
