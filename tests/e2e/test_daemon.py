"""A real daemon: a locked or full database, a second daemon, a hostile target, a drain."""

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon, daemon, get_wait, job_wait, jobs_and_receiver, submit, until
from preset_waits import get
from stream_server import stream_server

pytestmark = pytest.mark.slow


async def test_with_a_locked_database_submits_are_503_and_outcomes_are_delivered_later(
    tmp_path: Path,
) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        accepted = [await submit(client, waitd, job_wait(jobs, receiver, f"job{n}", 1.0)) for n in range(20)]
        other = sqlite3.connect(tmp_path / "waitd.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = job_wait(jobs, receiver, "refused", 0)
        async with client.post(f"{waitd.url}/v1/waits", json=refused) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["type"] == "/problems/unavailable"
        await waitd.logged("outcomes_not_stored")

        async def all_have_ended() -> bool:
            return "\nwaitd_waits_ending 20.0\n" in await get(f"{waitd.url}/metrics")

        await until(all_have_ended)
        async with client.get(f"{waitd.url}/readyz") as answer:
            assert answer.status == 503
        async with client.get(f"{waitd.url}/livez") as answer:
            assert answer.status == 200
        assert not receiver.digests, "no outcome is delivered before it is on disk"
        pokes = dict(jobs.requests)
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: set(receiver.digests) == set(accepted))
        assert dict(jobs.requests) == pokes, "a wait whose outcome is known is not poked again"
        assert all(len(digests) == 1 for digests in receiver.digests.values())

        async def is_ready() -> bool:
            async with client.get(f"{waitd.url}/readyz") as answer:
                return answer.status == 200

        await until(is_ready)
        assert "refused" not in jobs.requests


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a size-limited file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(ballast: Path) -> None:
    """Fills the disk but for 64 KiB, as another program's log might."""
    disk = os.statvfs(ballast.parent)
    ballast.write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - 64 * 1024))


async def test_a_full_disk_loses_no_accepted_wait(small_disk: Path) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client), daemon(small_disk) as waitd:
        accepted = []
        ballast = small_disk / "ballast"
        for n in range(2000):
            body = job_wait(jobs, receiver, f"job{n}", 3.0) | {"labels": {"padding": "x" * 250}}
            if n == 100:
                fill(ballast)
            async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
                if answer.status == 503:
                    break
                assert answer.status == 201
                accepted.append((await answer.json())["id"])
        else:
            pytest.fail("the disk did not fill up")
        await waitd.logged("outcomes_not_stored")
        ballast.unlink()
        await until(lambda: set(receiver.digests) == set(accepted))
        assert f"job{len(accepted)}" not in jobs.requests, "a refused wait is not poked"


async def test_a_second_daemon_on_the_same_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    async with daemon(tmp_path) as first:
        second = Daemon(tmp_path)
        with pytest.raises(AssertionError, match="did not start"):
            await second.start()
        assert await second.ended() == 1
        assert first.process is not None
        messages = " ".join(event["event"] for event in second.log)
        assert str(first.process.pid) in messages
        assert "waitd.db" in messages


async def test_a_hostile_target_affects_only_its_own_wait(tmp_path: Path) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with (
        stream_server(endless) as port,
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path) as waitd,
    ):
        hostile = {
            "kind": "http",
            "params": {"endpoint": f"http://127.0.0.1:{port}/", "success_when": "text.contains('done')"},
            "poke_interval": 0.2,
        }
        hostile_id = await submit(client, waitd, hostile)
        good = job_wait(jobs, receiver, "good", 1)
        good_id = await submit(client, waitd, good)
        await until(lambda: good_id in receiver.digests)

        async def is_too_large() -> bool:
            wait = await get_wait(client, waitd, hostile_id)
            assert wait["state"] == "waiting"
            return bool((wait["last_verdict"] or {}).get("reason") == "too_large")

        await until(is_too_large)


async def test_a_draining_daemon_refuses_submits_and_finishes_pokes_in_flight(tmp_path: Path) -> None:
    poked, answer_now = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        poked.set()
        await answer_now.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with (
        stream_server(slow) as port,
        jobs_and_receiver() as (_, receiver, client),
        daemon(tmp_path) as waitd,
    ):
        body = {
            "kind": "http",
            "params": {"endpoint": f"http://127.0.0.1:{port}/"},
            "sinks": [{"kind": "webhook", "url": f"{receiver.url}/hook"}],
        }
        wait_id = await submit(client, waitd, body)
        await poked.wait()
        assert waitd.process is not None
        waitd.process.send_signal(signal.SIGTERM)
        await waitd.logged("draining")
        async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
        answer_now.set()
        assert await waitd.ended() == 0
        await waitd.start()
        await until(lambda: wait_id in receiver.digests)
        assert receiver.event(wait_id)["data"]["state"] == "success"
        assert receiver.event(wait_id)["data"]["pokes"] == 1, "the answer of the poke in flight was stored"
