"""Kills a real daemon with SIGKILL at the worst moments.

No accepted wait is lost, no delivered event changes, and no deadline moves.
"""

import asyncio
import random
import signal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, Receiver, daemon, get_wait, job_wait, jobs_and_receiver, until
from killed_daemon import daemon_killed_at

pytestmark = pytest.mark.slow

POINTS = [
    "before the commit of a submit",
    "after the commit and before the hand-over",
    "before the terminal commit",
    "after the terminal commit and before the send",
    "after the send and before it is saved",
]


async def try_submit(
    client: aiohttp.ClientSession, waitd: Daemon, body: dict[str, Any], key: str
) -> dict[str, Any] | None:
    """Submits a wait; returns it, or None if the daemon did not accept it."""
    try:
        async with client.post(
            f"{waitd.url}/v1/waits", json=body, headers={"Idempotency-Key": key}
        ) as answer:
            if answer.status not in {200, 201}:
                return None
            wait: dict[str, Any] = await answer.json()
            return wait
    except aiohttp.ClientError:
        return None


async def is_delivered(client: aiohttp.ClientSession, waitd: Daemon, wait_id: str) -> bool:
    return [d["state"] for d in (await get_wait(client, waitd, wait_id))["deliveries"]] == ["delivered"]


async def check_promises(
    client: aiohttp.ClientSession, waitd: Daemon, receiver: Receiver, accepted: dict[str, dict[str, Any]]
) -> None:
    """Checks that every accepted wait succeeds, keeps its deadline, and delivers the same bytes."""
    await until(lambda: set(receiver.digests) >= set(accepted), what="the delivery of every accepted wait")
    for wait_id, wait in accepted.items():
        now = await get_wait(client, waitd, wait_id, 30)
        assert now["state"] == "success"
        assert now["deadline"] == wait["deadline"]
        assert now["created_at"] == wait["created_at"]
        assert len(set(receiver.digests[wait_id])) == 1
        assert receiver.event(wait_id)["id"] == wait_id
    for wait_id in accepted:
        await until(partial(is_delivered, client, waitd, wait_id), what="the delivery's own record")


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_a_named_point_loses_nothing(point: str, tmp_path: Path) -> None:
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon_killed_at(point, tmp_path, after=3) as waitd,
    ):
        bodies = {f"job{n}": job_wait(jobs, receiver, f"job{n}", 0.3) for n in range(12)}
        accepted = {}
        for name, body in bodies.items():
            wait = await try_submit(client, waitd, body, name)
            if wait is not None:
                accepted[wait["id"]] = wait
            if waitd.process is not None and waitd.process.returncode is not None:
                break
        assert await waitd.ended() == -signal.SIGKILL
        await waitd.start()
        for name, body in bodies.items():  # a caller without an answer submits again, with the same key
            wait = await try_submit(client, waitd, body, name)
            assert wait is not None
            accepted.setdefault(wait["id"], wait)
        assert len(accepted) == len(bodies)
        await check_promises(client, waitd, receiver, accepted)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_kills_at_random_moments_under_load_lose_nothing(tmp_path: Path, kills: int) -> None:
    chance = random.Random(20)
    accepted: dict[str, dict[str, Any]] = {}
    unanswered: dict[str, dict[str, Any]] = {}
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path) as waitd,
    ):

        async def submit_until_killed(turn: int) -> None:
            for n in count():
                key = f"job{turn}-{n}"
                body = job_wait(jobs, receiver, key, chance.uniform(0, 2))
                wait = await try_submit(client, waitd, body, key)
                if wait is None:
                    unanswered[key] = body
                    return
                accepted[wait["id"]] = wait
                await asyncio.sleep(0.005)

        for turn in range(kills):
            submitting = asyncio.create_task(submit_until_killed(turn))
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            assert await waitd.kill() == -signal.SIGKILL
            await submitting
            await waitd.start()
        for key, body in unanswered.items():
            wait = await try_submit(client, waitd, body, key)
            assert wait is not None
            accepted[wait["id"]] = wait
        assert len(accepted) > 2 * kills, "a test of a few waits would prove little"
        await check_promises(client, waitd, receiver, accepted)
        assert max(map(len, receiver.digests.values())) <= kills + 1


async def test_sigterm_drains_and_exits_zero_and_the_next_start_goes_on(tmp_path: Path) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        accepted = {}
        for n in range(30):
            body = job_wait(jobs, receiver, f"job{n}", n / 10)
            wait = await try_submit(client, waitd, body, f"key{n}")
            assert wait is not None
            accepted[wait["id"]] = wait
        poll = asyncio.create_task(get_wait(client, waitd, max(accepted), 60))
        await until(lambda: jobs.requests["job29"] > 3)
        assert await waitd.kill(signal.SIGTERM) == 0
        assert (await poll)["state"] == "waiting"
        assert (await waitd.logged("drained"))["outcomes_not_stored"] == 0
        await waitd.start()
        restarted = await get_wait(client, waitd, max(accepted))
        assert restarted["pokes"] >= 3, "progress was flushed on drain"
        await check_promises(client, waitd, receiver, accepted)
