"""The event stream of a real daemon, across a restart."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from daemon import daemon, job_wait, jobs_and_receiver, submit, until

pytestmark = pytest.mark.slow


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, Any]:
    """The id and the event of the next block with data."""
    while True:
        block = (await stream.content.readuntil(b"\n\n")).decode()
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n") if ": " in line)
        if "data" in fields:
            return fields["id"], orjson.loads(fields["data"])


async def test_the_stream_resumes_after_a_restart_and_counts_every_poke(tmp_path: Path) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        endless = await submit(client, waitd, job_wait(jobs, receiver, "endless", 600))
        await until(lambda: jobs.requests["endless"] >= 3, what="a third poke")
        async with client.get(f"{waitd.url}/v1/events") as stream:
            async with client.post(f"{waitd.url}/v1/waits/{endless}:cancel") as answer:
                cancelled = await answer.json()
            last, event = await next_event(stream)
            assert (event["id"], event["type"]) == (endless, "waitd.wait.cancelled")
            assert event["data"]["pokes"] == cancelled["pokes"] >= 3
            soon = await submit(client, waitd, job_wait(jobs, receiver, "soon", 0.3))
            last, event = await next_event(stream)
            assert event["id"] == soon
            ended = asyncio.create_task(waitd.kill(signal.SIGTERM))
            assert await stream.content.read() == b"", "the stream ends cleanly"
            assert await ended == 0
        await waitd.start()
        between = await submit(client, waitd, job_wait(jobs, receiver, "between", 0))
        await until(lambda: between in receiver.bodies, what="its delivery")
        async with client.get(f"{waitd.url}/v1/events", headers={"Last-Event-ID": last}) as stream:
            _, event = await next_event(stream)
            assert event == receiver.event(between)
