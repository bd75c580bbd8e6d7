"""SIGKILLs and power cuts at random moments lose no accepted wait and change no event.

A power cut is ext4's shutdown without a flush of its journal, on a loop device; it needs root. By
hand: `WAITD_KILLS=200 WAITD_POWER_CUTS=10 python -m pytest -s tests/crash/test_power_cuts.py`.
"""

import asyncio
import fcntl
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, Receiver, get_wait, job_wait, jobs_and_receiver, until
from test_crashes import is_delivered, try_submit

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("WAITD_KILLS", "5"))
POWER_CUTS = int(os.environ.get("WAITD_POWER_CUTS", "1"))
SEED = int(os.environ.get("WAITD_CRASH_SEED", "12"))
#: `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`, and its flag for a journal that is not flushed.
SHUTDOWN, NO_FLUSH = 0x8004587D, 2


class Disk:
    """An ext4 on a loop device."""

    def __init__(self, directory: Path, megabytes: int = 256) -> None:
        self._image, self.mount_point = directory / "disk.img", directory / "disk"
        self.mount_point.mkdir()
        self._image.touch()
        os.truncate(self._image, megabytes * 2**20)
        command("mkfs.ext4", "-q", "-F", str(self._image))

    def mount(self) -> None:
        command("mount", "-o", "loop", str(self._image), str(self.mount_point))

    def unmount(self) -> None:
        command("umount", str(self.mount_point))

    def cut_power(self) -> None:
        """Stops the file system at once: what is not on the device is lost."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(descriptor)


def command(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 can be mounted here: {error}")
    yield disk
    disk.unmount()


class Load:
    """Submits until the daemon does not answer, over any number of crashes."""

    def __init__(self, client: aiohttp.ClientSession, jobs: Any, receiver: Receiver) -> None:
        self.chance = random.Random(SEED)
        self.accepted: dict[str, dict[str, Any]] = {}
        self.unanswered: dict[str, dict[str, Any]] = {}
        self._client, self._jobs, self._receiver = client, jobs, receiver

    async def submit(self, waitd: Daemon, turn: int) -> None:
        for n in count():
            key = f"job{turn}-{n}"
            body = job_wait(self._jobs, self._receiver, key, self.chance.uniform(0, 2), timeout=3600)
            wait = await try_submit(self._client, waitd, body, key)
            if wait is None:
                self.unanswered[key] = body
                return
            self.accepted[wait["id"]] = wait
            await asyncio.sleep(0.005)

    async def check(self, waitd: Daemon) -> None:
        for key, body in self.unanswered.items():
            wait = await try_submit(self._client, waitd, body, key)
            assert wait is not None
            self.accepted[wait["id"]] = wait
        receiver = self._receiver
        await until(lambda: set(receiver.digests) >= set(self.accepted), seconds=300, what="all deliveries")
        for wait_id, wait in self.accepted.items():
            now = await get_wait(self._client, waitd, wait_id, 30)
            assert (now["state"], now["deadline"]) == ("success", wait["deadline"])
            assert len(set(receiver.digests[wait_id])) == 1, "delivered twice with other bytes"
            assert receiver.headers[wait_id]["webhook-id"] == wait_id
            await until(partial(is_delivered, self._client, waitd, wait_id))
        repeated = sum(len(digests) > 1 for digests in receiver.digests.values())
        print(f"{len(self.accepted)} waits, {repeated} delivered again under the same id")  # noqa: T201 - the report


async def test_kills_lose_nothing(tmp_path: Path) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client):
        waitd, load = Daemon(tmp_path), Load(client, jobs, receiver)
        try:
            for turn in range(KILLS):
                await waitd.start()
                submitting = asyncio.create_task(load.submit(waitd, turn))
                await asyncio.sleep(load.chance.uniform(0.05, 1.0))
                await waitd.kill()
                await submitting
            await waitd.start()
            await load.check(waitd)
        finally:
            await waitd.kill()


async def test_power_cuts_lose_nothing(disk: Disk) -> None:
    async with jobs_and_receiver() as (jobs, receiver, client):
        waitd, load = Daemon(disk.mount_point / "state"), Load(client, jobs, receiver)
        try:
            for turn in range(POWER_CUTS):
                await waitd.start()
                submitting = asyncio.create_task(load.submit(waitd, turn))
                await asyncio.sleep(load.chance.uniform(0.5, 2.0))
                disk.cut_power()
                await submitting
                await waitd.kill()
                disk.unmount()
                disk.mount()
            await waitd.start()
            await load.check(waitd)
        finally:
            await waitd.kill()
