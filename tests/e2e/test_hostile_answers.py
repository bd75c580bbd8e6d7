"""A real daemon whose targets are hostile: no wait ends, and the daemon goes on answering."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from daemon import daemon
from hostile_answers import CONDITIONS, hostile_server

from waitd.bench.sampler import ScrapedMetrics
from waitd.client import Client

pytestmark = pytest.mark.slow
#: Few waits share an origin: one that hangs is asked less often.
ORIGINS, COUNT = 40, 160


async def test_no_hostile_answer_ends_a_wait(tmp_path: Path) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")  # noqa: T201 - shown if the test fails
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(hostile_server()) for _ in range(ORIGINS)]
        waitd = await stack.enter_async_context(daemon(tmp_path))
        client = await stack.enter_async_context(Client(waitd.url))
        for n in range(COUNT):
            server = servers[n % ORIGINS]
            params = {"endpoint": f"{server.url}/{seed}-{n}", "request_timeout": 1, **CONDITIONS}
            await client.submit({"kind": "http", "params": params, "poke_interval": 3600})
        async with asyncio.timeout(60):
            while ScrapedMetrics.parse(await client.metrics()).total("waitd_pokes_total") < COUNT:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.2)
        states = [wait["state"] async for wait in client.each({})]
        assert await client.ready()
    assert states == ["waiting"] * COUNT
