"""Waits that submit their job, over SIGKILL: one job each, and never a second one."""

import asyncio
import random
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import daemon, get_wait, submit, until
from job_system import JobSystem, job_system
from killed_daemon import daemon_killed_at

pytestmark = pytest.mark.slow

#: What happens to a submitting call: nothing four times out of nine.
FAULTS = ["", "", "", "", "drop", "before drop", "500", "before busy", "hang"]
#: After so many calls of one name there are no more faults: the pauses between calls grow, and the
#: test must end.
MAX_FAULTS = 4


def body_for(system: JobSystem, name: str, *, idempotent: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "kind": "http",
        "params": {
            "endpoint": f"{system.url}/jobs/{{handle}}",
            "success_when": "body.state == 'DONE'",
            "failure_when": "body.state == 'CANCELLED'",
        },
        "poke_interval": 0.2,
        "timeout": 300,
        "submit": {
            "endpoint": f"{system.url}/jobs",
            "json": {"name": name},
            "handle": "body.job.id",
            "idempotent": idempotent,
            "request_timeout": 1,
            **more,
        },
        "labels": {"name": name},
    }


def cancelling(system: JobSystem) -> dict[str, Any]:
    cancel = {"method": "DELETE", "endpoint": f"{system.url}/jobs/{{handle}}", "request_timeout": 1}
    return {"cancel_job_on": ["cancelled", "timeout"], "cancel": cancel}


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
async def test_each_wait_makes_one_job_over_kills(tmp_path: Path, kills: int) -> None:
    chance = random.Random(4)
    idempotent = [f"job{n}" for n in range(20 * kills)]
    others = [f"other{n}" for n in range(5 * kills)]
    waits: dict[str, str] = {}
    left = [*idempotent, *others]
    chance.shuffle(left)
    async with job_system() as system, aiohttp.ClientSession() as client, daemon(tmp_path) as waitd:
        system.submit_fault = lambda name: chance.choice(FAULTS) if system.calls[name] <= MAX_FAULTS else ""
        for _ in range(kills):
            for name in left[:25]:
                body = body_for(system, name, idempotent=name in idempotent)
                waits[name] = await submit(client, waitd, body)
            left = left[25:]
            await asyncio.sleep(chance.uniform(0.0, 0.6))
            assert await waitd.kill() == -signal.SIGKILL
            await waitd.start()
        assert not left
        ended = {name: await get_wait(client, waitd, wait_id, 60) for name, wait_id in waits.items()}
        for name in idempotent:
            assert ended[name]["state"] == "success", ended[name]
            [job] = system.jobs_named(name)
            assert ended[name]["submit"]["handle"] == job.id
        unknown = [name for name in others if ended[name]["state"] == "failed"]
        for name in others:
            assert len(system.jobs_named(name)) <= 1, "a call that must not be repeated was"
            if name in unknown:
                assert ended[name]["outcome"]["reason"] == "submit_unknown"
                assert ended[name]["submit"]["state"] == "unknown"
            else:
                assert ended[name]["state"] == "success"
                assert len(system.jobs_named(name)) == 1
        # Both endings occurred, and calls were repeated, or the test would prove little.
        assert len(others) // 10 < len(unknown) < len(others) * 9 // 10
        assert sum(system.calls[name] for name in idempotent) > 25 * kills


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize(
    "point",
    [
        "after the mark and before the submitting call",
        "after the submitting call and before the handle is stored",
    ],
)
async def test_a_kill_around_the_submitting_call_makes_no_second_job(
    point: str, idempotent: bool, tmp_path: Path
) -> None:
    async with (
        job_system() as system,
        aiohttp.ClientSession() as client,
        daemon_killed_at(point, tmp_path) as waitd,
    ):
        wait_id = await submit(client, waitd, body_for(system, "a", idempotent=idempotent))
        assert await waitd.ended() == -signal.SIGKILL
        called = system.calls["a"]
        assert called == (0 if "before the submitting" in point else 1)
        await waitd.start()
        wait = await get_wait(client, waitd, wait_id, 30)
        if idempotent:
            assert wait["state"] == "success"
            assert (len(system.jobs_named("a")), system.calls["a"]) == (1, called + 1)
        else:
            assert wait["outcome"]["reason"] == "submit_unknown"
            assert system.calls["a"] == called


@pytest.mark.parametrize(
    "point", ["before the job is cancelled", "after the job is cancelled and before it is stored"]
)
async def test_a_job_is_cancelled_after_a_kill(point: str, tmp_path: Path) -> None:
    async with (
        job_system() as system,
        aiohttp.ClientSession() as client,
        daemon_killed_at(point, tmp_path) as waitd,
    ):
        system.running_polls = 10**6
        wait_id = await submit(client, waitd, body_for(system, "a", **cancelling(system)))
        await until(lambda: system.jobs and system.jobs[0].polls > 1, what="a poke of the job")
        async with client.post(f"{waitd.url}/v1/waits/{wait_id}:cancel", json={}) as answer:
            assert answer.status == 200
        assert await waitd.ended() == -signal.SIGKILL
        await waitd.start()

        async def is_cancelled() -> bool:
            cancel = (await get_wait(client, waitd, wait_id))["submit"]["cancel"]
            return bool(cancel["state"] == "cancelled")

        await until(is_cancelled, what="the cancelling of the job")
        assert system.jobs[0].cancels == (2 if point.startswith("after") else 1)


async def test_a_restart_cancels_no_job(tmp_path: Path) -> None:
    async with job_system() as system, aiohttp.ClientSession() as client, daemon(tmp_path) as waitd:
        system.running_polls = 10**6
        wait_id = await submit(client, waitd, body_for(system, "a", **cancelling(system)))
        await until(lambda: system.jobs and system.jobs[0].polls > 1, what="a poke of the job")
        assert await waitd.kill(signal.SIGTERM) == 0
        polls = system.jobs[0].polls
        await waitd.start()
        await until(lambda: system.jobs[0].polls > polls, what="a poke after the restart")
        assert system.jobs[0].cancels == 0
        assert (await get_wait(client, waitd, wait_id))["submit"]["cancel"] is None


async def test_a_job_whose_submit_got_no_answer_is_cancelled_after_a_kill(tmp_path: Path) -> None:
    async with job_system() as system, aiohttp.ClientSession() as client, daemon(tmp_path) as waitd:
        system.submit_fault = lambda name: "drop" if system.calls[name] == 1 else ""
        body = body_for(system, "a", **cancelling(system)) | {"poke_interval": 3600}
        wait_id = await submit(client, waitd, body)
        await until(lambda: system.jobs, what="the call")
        async with client.post(f"{waitd.url}/v1/waits/{wait_id}:cancel", json={}) as answer:
            assert (await answer.json())["submit"]["cancel"]["state"] == "pending"
        await waitd.kill()
        await waitd.start()
        await until(lambda: system.jobs[0].cancels, what="the cancelling of the job")
        assert len(system.jobs) == 1
        assert system.calls["a"] >= 2, "the submit was repeated to get the handle"
