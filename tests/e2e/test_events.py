"""Following a real daemon over its end and its restart."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from daemon import Daemon, daemon, until, wait_for_job, world

pytestmark = pytest.mark.slow


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, Any]:
    """The id and the event of the next block that has one."""
    while True:
        block = (await stream.content.readuntil(b"\n\n")).decode()
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n") if ": " in line)
        if "data" in fields:
            return fields["id"], orjson.loads(fields["data"])


async def submitted(client: aiohttp.ClientSession, waitd: Daemon, body: dict[str, Any]) -> str:
    async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def test_outcomes_are_followed_over_a_restart_and_tell_every_poke(tmp_path: Path) -> None:
    async with world() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        endless = await submitted(client, waitd, wait_for_job(jobs, receiver, "endless", 600))
        await until(lambda: jobs.asked["endless"] >= 3, what="a third poke")
        async with client.get(f"{waitd.url}/v1/events") as stream:
            async with client.post(f"{waitd.url}/v1/waits/{endless}:cancel") as answer:
                shown = await answer.json()
            last, event = await next_event(stream)
            assert (event["id"], event["type"]) == (endless, "waitd.wait.cancelled")
            assert event["data"]["pokes"] == shown["pokes"] >= 3
            soon = await submitted(client, waitd, wait_for_job(jobs, receiver, "soon", 0.3))
            last, event = await next_event(stream)
            assert event["id"] == soon
            ended = asyncio.create_task(waitd.kill(signal.SIGTERM))
            assert await stream.content.read() == b"", "the stream ends cleanly"
            assert await ended == 0
        await waitd.start()
        between = await submitted(client, waitd, wait_for_job(jobs, receiver, "between", 0))
        await until(lambda: between in receiver.bodies, what="its delivery")
        async with client.get(f"{waitd.url}/v1/events", headers={"Last-Event-ID": last}) as stream:
            _, event = await next_event(stream)
            assert event == receiver.event(between)
