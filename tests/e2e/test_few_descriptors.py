"""A real daemon that runs out of file descriptors: its own trouble, and the store goes on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from daemon import daemon, job_wait, jobs_and_receiver, submit, until
from preset_waits import get

pytestmark = pytest.mark.slow

FEW_DESCRIPTORS = """
import resource, sys
sys.argv = ['waitd', 'serve']
resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))
from waitd.cli import main
main()
"""


class SilentServer:
    """Accepts connections on every address of 127.0.0.0/8, and answers once it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.answers.wait()
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def origin(self, number: int) -> str:
        return f"http://127.0.{1 + number // 200}.{1 + number % 200}:{self.port}"


@asynccontextmanager
async def silent_server() -> AsyncIterator[SilentServer]:
    silent = SilentServer()
    server = await asyncio.start_server(silent.serve, "0.0.0.0", 0, backlog=1024)
    silent.port = server.sockets[0].getsockname()[1]
    try:
        yield silent
    finally:
        silent.answers.set()
        server.close()


@pytest.mark.long
async def test_without_descriptors_the_store_goes_on_and_no_target_is_blamed(tmp_path: Path) -> None:
    script = tmp_path / "few.py"
    script.write_text(FEW_DESCRIPTORS)
    async with (
        silent_server() as silent,
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path / "state", script=script) as waitd,
    ):
        assert (await waitd.logged("file_limit_is_low"))["now"] == 90
        waits = []
        for n in range(150):
            wait = job_wait(jobs, receiver, f"job{n}", 0)
            wait["params"] = {"endpoint": silent.origin(n), "request_timeout": 20}
            waits.append(await submit(client, waitd, wait | {"poke_interval": 5}))
        await waitd.logged("local_trouble")

        async def not_ready() -> bool:
            async with client.get(f"{waitd.url}/readyz") as answer:
                return answer.status == 503 and "file descriptor" in await answer.text()

        await until(not_ready)
        assert 'waitd_local_errors_total{met_by="pokes"}' in await get(f"{waitd.url}/metrics")
        started = time.monotonic()
        for n in range(200):  # the store writes, and the API accepts
            await submit(client, waitd, job_wait(jobs, receiver, f"more{n}", 0))
        assert time.monotonic() - started < 120
        runs = [(await get(f"{waitd.url}/v1/waits/{wait_id}/pokes"))["runs"] for wait_id in waits]
        own = [run for each in runs for run in each if run["reason"] == "local_error"]
        assert own
        assert {run["reason"] for each in runs for run in each} <= {"local_error", "timeout"}

        assert waitd.process is not None
        process = psutil.Process(waitd.process.pid)
        before, started = process.cpu_times().user, time.monotonic()
        crowd = [asyncio.create_task(hold_open(waitd.url)) for _ in range(200)]
        await asyncio.sleep(5)
        assert process.cpu_times().user - before < 0.6 * (time.monotonic() - started), "nothing spins"
        for task in crowd:
            task.cancel()

        silent.answers.set()

        async def is_ready() -> bool:
            async with client.get(f"{waitd.url}/readyz") as answer:
                return answer.status == 200

        await until(is_ready, 120)
        await until(lambda: len(receiver.digests) >= 200, 120, f"200 of {len(receiver.digests)} deliveries")
        assert not [event for event in waitd.log if event.get("event") == "store_not_writable"]


async def hold_open(url: str) -> None:
    """Opens a connection and sends nothing."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        await asyncio.sleep(60)
    finally:
        writer.close()
