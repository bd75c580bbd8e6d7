"""A real daemon whose waits name hosts that do not resolve, beside others that do."""

import asyncio
import time
from pathlib import Path

import pytest
from daemon import daemon, get_wait, job_wait, jobs_and_receiver, submit, until
from name_server import name_server

SCRIPT = Path(__file__).with_name("daemon_with_name_server.py")
HUNG, HEALTHY = 100, 50

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
        submitted = time.monotonic()
        await asyncio.gather(*(wait_on(host, f"h{number}") for number, host in enumerate(healthy)))
        await until(lambda: len(jobs.first_request_at) == HEALTHY, 20, "the first pokes")
        late = max(jobs.first_request_at.values()) - submitted
        before = jobs.requests.copy()
        await asyncio.sleep(20)  # two rounds of look-ups that hang, and what is remembered of them
        pokes = min((jobs.requests - before)[f"h{number}"] for number in range(HEALTHY))
        assert late < 5
        assert pokes >= 17
        wait = await get_wait(client, waitd, hung[0])
        assert wait["state"] == "waiting"
        assert wait["last_verdict"]["reason"] == "dns"
