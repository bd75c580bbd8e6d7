"""Waits over the API of a daemon."""

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


async def submitted(served: Daemon, **body: Any) -> Any:
    """A wait that was accepted."""
    status, wait = await post(f"{served.url}/v1/waits", body)
    assert status == 201, wait
    return wait


async def ended(served: Daemon, wait: dict[str, Any], seconds: float = 60) -> Any:
    """The wait, once it has ended."""
    return await shown(served, wait, lambda now: now["state"] != "waiting", seconds)


async def shown(
    served: Daemon, wait: dict[str, Any], wanted: Callable[[Any], bool], seconds: float = 60
) -> Any:
    """The wait, once it is as wanted."""
    now: Any = wait

    async def looked() -> bool:
        nonlocal now
        now = await get(f"{served.url}/v1/waits/{wait['id']}")
        return wanted(now)

    await until(looked, seconds, "the wait's end")
    return now


def says(reason: str, word: str = "") -> Callable[[Any], bool]:
    """Whether a wait's last look came to this reason, in a message with this word."""

    def said(wait: Any) -> bool:
        last = wait["last_verdict"] or {"reason": "", "message": ""}
        return bool(last["reason"] == reason and word in (last["message"] or ""))

    return said
