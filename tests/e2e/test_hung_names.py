"""A real daemon whose waits name hosts that do not resolve, beside others that do."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from daemon import daemon, get_wait, job_wait, jobs_and_receiver, submit, until
from name_server import name_server

SCRIPT = Path(__file__).with_name("daemon_with_name_server.py")
HUNG, HEALTHY, POKES = 100, 50, 15

pytestmark = pytest.mark.slow


async def test_names_that_hang_delay_only_their_own_waits(tmp_path: Path) -> None:
    healthy = {f"h{number}.healthy.example": ["127.0.0.1"] for number in range(HEALTHY)}
    async with (
        name_server(records=healthy, hung=("hung.example",)) as names,
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path, script=SCRIPT, arguments=["serve"], TEST_NAME_SERVER=names.address) as waitd,
    ):
        port = jobs.url.rpartition(":")[2]

        async def wait_on(host: str, name: str, **fields: float) -> str:
            body = job_wait(jobs, receiver, name, 3600, poke_interval=1, **fields)
            body["params"]["endpoint"] = f"http://{host}:{port}/jobs/{name}?for=3600"
            return await submit(client, waitd, body)

        # More waits than `poke_concurrency`, if each name got as many pokes as a proven origin.
        hung = await asyncio.gather(
            *(wait_on(f"n{number % HUNG}.hung.example", f"hung{number}") for number in range(20 * HUNG))
        )
        await asyncio.gather(*(wait_on(host, f"h{number}") for number, host in enumerate(healthy)))
        # An address needs no look-up: its pokes say how fast this machine is now.
        await wait_on("127.0.0.1", "address")
        rounds = Counter(names.queries)
        await until(lambda: jobs.requests["address"] >= POKES, 6 * POKES, "pokes of an address")
        await until(lambda: names.queries["n0.hung.example"] > rounds["n0.hung.example"], 60, "a new look-up")
        pokes = min(jobs.requests[f"h{number}"] for number in range(HEALTHY))
        assert pokes >= 0.7 * jobs.requests["address"]
        wait = await get_wait(client, waitd, hung[0])
        assert wait["state"] == "waiting"
        assert wait["last_verdict"]["reason"] == "dns"


@pytest.mark.parametrize(("hung", "status"), [("hung.example", 200), ("", 503)])
async def test_only_a_dead_name_server_makes_an_idle_daemon_unready(
    tmp_path: Path, hung: str, status: int
) -> None:
    """The names of waits prove nothing: everyone can submit names whose own servers are dead."""
    async with (
        name_server(hung=(hung,)) as names,
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path, script=SCRIPT, arguments=["serve"], TEST_NAME_SERVER=names.address) as waitd,
    ):
        waits = []
        for number in range(5):
            body = job_wait(jobs, receiver, f"n{number}", 3600, poke_interval=1)
            body["params"]["endpoint"] = f"http://n{number}.hung.example/"
            waits.append(await submit(client, waitd, body))

        async def poked_twice(wait_id: str) -> bool:
            wait = await get_wait(client, waitd, wait_id)
            seen = wait["last_verdict"]
            return wait["pokes"] >= 2 or (seen is not None and seen["reason"] == "local_error")

        for wait_id in waits:
            await until(partial(poked_twice, wait_id), 120, "two pokes")
        async with client.get(f"{waitd.url}/readyz") as response:
            assert response.status == status
