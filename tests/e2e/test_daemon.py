"""The daemon as its users meet it: a store in trouble, a second daemon, a hostile target, a drain."""

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon, daemon, until, wait_for_job, world
from stream_server import stream_server

pytestmark = pytest.mark.slow


async def test_while_the_database_is_locked_submits_are_503_and_outcomes_are_kept_and_delivered_later(
    tmp_path: Path,
) -> None:
    async with world() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        accepted = []
        for n in range(20):
            body = wait_for_job(jobs, receiver, f"job{n}", 1.0)
            async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
                accepted.append((await answer.json())["id"])
        other = sqlite3.connect(tmp_path / "waitd.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = wait_for_job(jobs, receiver, "refused", 0)
        async with client.post(f"{waitd.url}/v1/waits", json=refused) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["type"] == "/problems/unavailable"
        await waitd.logged("outcomes_not_stored")

        async def all_have_ended() -> bool:
            async with client.get(f"{waitd.url}/metrics") as answer:
                return "\nwaitd_waits_ending 20.0\n" in await answer.text()

        await until(all_have_ended)
        async with client.get(f"{waitd.url}/readyz") as answer:
            assert answer.status == 503
        async with client.get(f"{waitd.url}/livez") as answer:
            assert answer.status == 200
        assert not receiver.digests, "no event leaves before its outcome is on disk"
        looks = dict(jobs.asked)
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: set(receiver.digests) == set(accepted))
        assert dict(jobs.asked) == looks, "a wait whose outcome is known is not poked again"
        assert all(len(digests) == 1 for digests in receiver.digests.values())

        async def ready() -> bool:
            async with client.get(f"{waitd.url}/readyz") as answer:
                return answer.status == 200

        await until(ready)
        assert "refused" not in jobs.asked


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a size-limited file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Takes all but 64 KiB of the disk, as some other program's log would."""
    disk = os.statvfs(ballast.parent)
    ballast.write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - 64 * 1024))


async def test_a_full_disk_loses_nothing_that_was_accepted(small_disk: Path) -> None:
    async with world() as (jobs, receiver, client), daemon(small_disk) as waitd:
        accepted = []
        ballast = small_disk / "ballast"
        for n in range(2000):
            body = wait_for_job(jobs, receiver, f"job{n}", 3.0) | {"labels": {"padding": "x" * 250}}
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
        assert f"job{len(accepted)}" not in jobs.asked, "what was refused is not poked"


async def test_a_second_daemon_on_the_same_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    async with daemon(tmp_path) as first:
        second = Daemon(tmp_path)
        with pytest.raises(AssertionError, match="did not start"):
            await second.start()
        assert await second.ended() == 1
        assert first.process is not None
        said = " ".join(event["event"] for event in second.log)
        assert str(first.process.pid) in said
        assert "waitd.db" in said


async def test_a_hostile_target_costs_only_its_own_wait_and_show_says_why(tmp_path: Path) -> None:
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

    async with stream_server(endless) as port, world() as (jobs, receiver, client), daemon(tmp_path) as waitd:
        hostile = {
            "kind": "http",
            "params": {"endpoint": f"http://127.0.0.1:{port}/", "success_when": "text.contains('done')"},
            "poke_interval": 0.2,
        }
        async with client.post(f"{waitd.url}/v1/waits", json=hostile) as answer:
            hostile_id = (await answer.json())["id"]
        good = wait_for_job(jobs, receiver, "good", 1)
        async with client.post(f"{waitd.url}/v1/waits", json=good) as answer:
            good_id = (await answer.json())["id"]
        await until(lambda: good_id in receiver.digests)

        async def seen() -> str:
            async with client.get(f"{waitd.url}/v1/waits/{hostile_id}") as answer:
                wait = await answer.json()
                assert wait["state"] == "waiting"
                return str((wait["last_verdict"] or {}).get("reason"))

        async def is_too_large() -> bool:
            return await seen() == "too_large"

        await until(is_too_large)


async def test_a_draining_daemon_refuses_submits_and_lets_a_poke_in_flight_finish(tmp_path: Path) -> None:
    asked, answer_now = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer_now.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with stream_server(slow) as port, world() as (_, receiver, client), daemon(tmp_path) as waitd:
        body = {
            "kind": "http",
            "params": {"endpoint": f"http://127.0.0.1:{port}/"},
            "sinks": [{"kind": "webhook", "url": f"{receiver.url}/hook"}],
        }
        async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
            wait_id = (await answer.json())["id"]
        await asked.wait()
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
        assert receiver.event(wait_id)["data"]["pokes"] == 1, "its answer was kept, not asked for again"
