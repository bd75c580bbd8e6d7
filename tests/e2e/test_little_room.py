"""Real daemons on a full disk and with little memory: their own trouble, and nothing is lost."""

import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web
from daemon import (
    Daemon,
    Jobs,
    Receiver,
    daemon,
    get_wait,
    job_wait,
    jobs_and_receiver,
    serving,
    submit,
    until,
)
from preset_waits import get
from small_disk import mounted_small_disk

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_small_disk(tmp_path / "disk", 2) as disk:
        yield disk


async def readiness(client: aiohttp.ClientSession, waitd: Daemon) -> int:
    async with client.get(f"{waitd.url}/readyz") as answer:
        return answer.status


async def submit_until_refused(
    client: aiohttp.ClientSession, waitd: Daemon, jobs: Jobs, receiver: Receiver
) -> list[str]:
    """Submits waits until one is refused with 503; returns the ids of those accepted."""
    accepted: list[str] = []
    while True:
        body = job_wait(jobs, receiver, f"job{len(accepted)}", 0, labels={"fill": "x" * 200})
        body["params"]["headers"] = {"x-fill": "x" * 4000}
        async with client.post(f"{waitd.url}/v1/waits", json=body | {"poke_interval": 3600}) as answer:
            if answer.status != 201:
                assert answer.status == 503, await answer.text()
                return accepted
            accepted.append((await answer.json())["id"])
        assert len(accepted) < 2000


async def test_a_full_disk_is_own_trouble_and_what_was_accepted_is_delivered(small_disk: Path) -> None:
    filler = small_disk / "filler"
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(small_disk, WAITD_DISK_RESERVE="0") as waitd,
    ):
        first = await submit(client, waitd, job_wait(jobs, receiver, "first", 3))
        filler.write_bytes(b"")
        with filler.open("ab") as file:
            try:
                while True:
                    os.write(file.fileno(), b"x" * 4096)
            except OSError:
                pass  # the disk is full
        accepted = [first, *await submit_until_refused(client, waitd, jobs, receiver)]

        async def is_unready() -> bool:
            return await readiness(client, waitd) == 503

        async def is_ready() -> bool:
            return await readiness(client, waitd) == 200

        await until(is_unready)
        refused = [line for line in waitd.log if line.get("event") == "store_not_writable"]
        assert refused
        filler.unlink()
        await until(is_ready)
        await until(lambda: set(accepted) <= receiver.digests.keys(), 60, "every accepted wait is delivered")
        assert (await get_wait(client, waitd, first))["state"] == "success"
        assert await waitd.kill(signal.SIGTERM) == 0
        assert not [line for line in waitd.log if "exception" in line]


async def test_submits_are_refused_before_the_disk_is_full_and_all_that_was_accepted_ends(
    tmp_path: Path,
) -> None:
    mebibytes = 96
    with mounted_small_disk(tmp_path / "disk", mebibytes) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(72 * 2**20))
        async with jobs_and_receiver() as (jobs, receiver, client), daemon(disk) as waitd:

            async def post(path: str, body: object = None) -> int:
                async with client.post(f"{waitd.url}{path}", json=body) as answer:
                    assert answer.status < 500 or answer.status == 507, await answer.text()
                    return answer.status

            async def disk_state() -> str:
                async with client.get(f"{waitd.url}/readyz") as answer:
                    assert answer.status == 200, await answer.text()
                    return str((await answer.json())["status"])

            delivered = await submit(client, waitd, job_wait(jobs, receiver, "delivered", 0))
            await until(lambda: delivered in receiver.digests)
            accepted: list[str] = []
            fill = {f"x-fill-{number}": "x" * 4000 for number in range(10)}
            large = job_wait(jobs, receiver, "job", 0) | {"poke_interval": 3600}
            large["params"] |= {"endpoint": f"{jobs.url}/jobs/job?for=3600", "headers": fill}
            while True:
                async with client.post(f"{waitd.url}/v1/waits", json=large) as answer:
                    if answer.status == 507:  # what may still be on its way to the disk counts
                        break
                    assert answer.status == 201, await answer.text()
                    accepted.append((await answer.json())["id"])
                assert len(accepted) < 2000
            reserve = mebibytes * 2**20 // 10
            assert shutil.disk_usage(disk).free >= reserve
            assert len(accepted) > 20
            with filler.open("ab") as file:  # another program takes what is left, and more
                file.write(bytes(shutil.disk_usage(disk).free - reserve * 4 // 5))
            await waitd.logged("disk_nearly_full")
            assert await post("/v1/waits", large) == 507
            assert await disk_state() == "degraded"
            assert await post("/v1/signals/approved", {"by": "ops"}) == 507
            assert await post(f"/v1/waits/{delivered}:redeliver") == 507
            for wait_id in accepted:  # each writes an end, an event and a delivery
                assert await post(f"/v1/waits/{wait_id}:cancel") == 200
            await until(lambda: set(accepted) <= receiver.digests.keys(), 60, "every end is delivered")
            assert not waitd.has_logged("store_not_writable")
            filler.unlink()
            await waitd.logged("disk_has_room_again")
            assert await post("/v1/waits", large) == 201


class LargeJobs(Jobs):
    """Its answers need memory that the daemon has not had before."""

    async def handle(self, request: web.Request) -> web.Response:
        answer = await super().handle(request)
        if answer.status == 200:
            return answer
        return web.json_response({"status": "RUNNING", "fill": "x" * 500_000})


async def test_without_memory_no_wait_is_lost_and_no_target_is_blamed(tmp_path: Path) -> None:
    large = LargeJobs()
    async with (
        jobs_and_receiver() as (_, receiver, client),
        serving("GET", "/jobs/{name}", large.handle) as large.url,
        daemon(tmp_path, MALLOC_ARENA_MAX="1") as waitd,
    ):
        assert waitd.process is not None
        process = psutil.Process(waitd.process.pid)
        unlimited = process.rlimit(resource.RLIMIT_AS)
        process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms + 2**20, unlimited[1]))
        waits = [await submit(client, waitd, job_wait(large, receiver, f"job{n}", 6)) for n in range(20)]
        assert "memory is short" in (await waitd.logged("local_trouble"))["why"]
        process.rlimit(resource.RLIMIT_AS, unlimited)
        await until(lambda: set(waits) <= receiver.digests.keys(), 60, "every wait ends")
        reasons: Counter[str] = Counter()
        for wait_id in waits:
            assert (await get_wait(client, waitd, wait_id))["state"] == "success"
            runs = (await get(f"{waitd.url}/v1/waits/{wait_id}/pokes"))["runs"]
            reasons.update(run["reason"] for run in runs if run["verdict"] == "unreachable")
        assert reasons.keys() == {"local_error"}
        assert await waitd.kill(signal.SIGTERM) == 0
