"""A pod rolled under load ends within its grace period, and the next one continues."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from daemon import Daemon, Receiver, serving, until

pytestmark = pytest.mark.slow
STATEFUL_SET = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "statefulset.yaml"
POD = yaml.safe_load(STATEFUL_SET.read_text())["spec"]["template"]["spec"]
#: Seconds between SIGTERM and SIGKILL.
GRACE_PERIOD: float = POD["terminationGracePeriodSeconds"]
WAITS = 600


class SlowJobs:
    """A job server whose answers take half a second.

    Those of jobs named `hanging…` also wait for `recovered`.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.in_flight = 0
        self.recovered = asyncio.Event()
        self.finished = False

    async def handle(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.requests[name] += 1
        self.in_flight += 1
        try:
            await asyncio.sleep(0.5)
            if name.startswith("hanging"):
                await self.recovered.wait()
        finally:
            self.in_flight -= 1
        state = "SUCCEEDED" if self.finished or name.startswith("hanging") else "RUNNING"
        return web.json_response({"state": state})


class SlowReceiver(Receiver):
    """A receiver that takes half a second for each callback."""

    async def handle(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return await super().handle(request)


def body(jobs_url: str, receiver_url: str, name: str) -> dict[str, Any]:
    return {
        "kind": "http",
        "params": {"endpoint": f"{jobs_url}/jobs/{name}", "success_when": "body.state == 'SUCCEEDED'"},
        "poke_interval": 1,
        "timeout": 300,
        "sinks": [{"kind": "webhook", "url": f"{receiver_url}/hook"}],
    }


async def test_a_pod_rolled_under_load_loses_no_wait_and_no_callback(tmp_path: Path) -> None:
    jobs, receiver = SlowJobs(), SlowReceiver()
    accepted: set[str] = set()
    refused: set[str] = set()
    async with (
        serving("GET", "/jobs/{name}", jobs.handle) as jobs_url,
        serving("POST", "/hook", receiver.handle) as receiver.url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20)) as client,
    ):
        daemon = Daemon(tmp_path, WAITD_PER_HOST_CONCURRENCY="400", WAITD_DRAIN_TIMEOUT="10")

        async def submit(name: str) -> None:
            """Submits a wait, which the daemon accepts, refuses, or does not answer."""
            try:
                async with client.post(
                    f"{daemon.url}/v1/waits", json=body(jobs_url, receiver.url, name)
                ) as answer:
                    if answer.status == 201:
                        accepted.add((await answer.json())["id"])
                    else:
                        assert answer.status == 503
                        refused.add(name)
            except aiohttp.ClientError:
                refused.add(name)

        async def keep_submitting() -> None:
            number = 0
            while len(refused) < 20:
                await submit(f"later{number}")
                number += 1

        try:
            await daemon.start()
            await asyncio.gather(*(submit(f"job{n}") for n in range(WAITS)))
            await asyncio.gather(*(submit(f"hanging{n}") for n in range(50)))
            assert len(accepted) == WAITS + 50
            await until(lambda: jobs.in_flight >= 200, what="hundreds of pokes in flight")
            jobs.finished = True
            await until(lambda: receiver.digests, what="the first callbacks")
            submitting = asyncio.create_task(keep_submitting())
            await until(lambda: any(name.startswith("later") for name in jobs.requests))
            began = time.monotonic()
            assert await daemon.kill(signal.SIGTERM) == 0
            assert time.monotonic() - began < GRACE_PERIOD
            await submitting
            event = await daemon.logged("drained")
            assert event["outcomes_not_stored"] == 0
            undelivered = accepted - set(receiver.digests)
            assert undelivered, "there is work left for the restart"
            jobs.recovered.set()
            await daemon.start()
            await until(lambda: set(receiver.digests) >= accepted, what="the callback of every accepted wait")
            for wait_id in accepted:
                assert len(set(receiver.digests[wait_id])) == 1, "a repeated callback has the same bytes"
                assert receiver.event(wait_id)["data"]["state"] == "success"
        finally:
            if daemon.process is not None:
                await daemon.kill()
