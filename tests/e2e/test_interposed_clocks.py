"""The clocks of a real daemon jump: only elapsed time ends a wait and starts a retry."""

import mmap
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest
from daemon import daemon, get_wait, job_wait, jobs_and_receiver, submit, until
from installation import require_apt_package

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).with_name("interposed_clocks.c")
HOUR = 3600.0


def has_c_compiler() -> bool:
    return shutil.which("cc") is not None and Path("/usr/include/time.h").exists()


class Clocks:
    """How far a daemon's clocks have moved, in seconds; `environment` interposes them."""

    def __init__(self, directory: Path) -> None:
        require_apt_package("build-essential", has_c_compiler)
        library, file = directory / "clocks.so", directory / "clocks"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        file.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(library), "CLOCKS_FILE": str(file)}
        with file.open("r+b") as opened:
            self._moved = mmap.mmap(opened.fileno(), 16)
        self._wall = self._monotonic = 0.0

    def jump(self, *, wall: float = 0.0, monotonic: float = 0.0) -> None:
        self._wall += wall
        self._monotonic += monotonic
        self._moved[:] = struct.pack("qq", int(self._wall * 1e9), int(self._monotonic * 1e9))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_jump_of_the_wall_clock_is_no_elapsed_time(tmp_path: Path, jump: float) -> None:
    """Twice of what remains jumps by; the time itself passes on both clocks."""
    clocks = Clocks(tmp_path)
    delays = {"WAITD_DELIVERY_RETRY_DELAYS": f"[0, {HOUR / 2}, 1]"}
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path, **clocks.environment, **delays) as waitd,
    ):

        async def pokes(number: int) -> None:
            polled = jobs.requests["endless"] + number
            await until(lambda: jobs.requests["endless"] >= polled, 60, "more pokes")

        waiting = await submit(client, waitd, job_wait(jobs, receiver, "endless", 1e9, timeout=HOUR / 2))
        receiver.statuses = [503]
        refused = await submit(client, waitd, job_wait(jobs, receiver, "done", 0.0))
        await until(lambda: len(receiver.digests[refused]) == 1, 60, "the first attempt")
        for step in (jump, -jump):
            clocks.jump(wall=step)
            await pokes(10)  # two seconds
            assert (await get_wait(client, waitd, waiting))["state"] == "waiting"
            assert len(receiver.digests[refused]) == 1
        clocks.jump(wall=jump)
        clocks.jump(wall=HOUR, monotonic=HOUR)
        await until(lambda: receiver.digests[waiting], 60, "the outcome of the wait")
        assert receiver.event(waiting)["data"]["state"] == "timeout"
        await until(lambda: len(receiver.digests[refused]) == 2, 60, "the second attempt")


async def test_a_clock_that_is_set_while_no_daemon_runs_is_no_elapsed_time(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    delays = {"WAITD_DELIVERY_RETRY_DELAYS": f"[0, {HOUR / 2}, 1]"}
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path, **clocks.environment, **delays) as waitd,
    ):
        waiting = await submit(client, waitd, job_wait(jobs, receiver, "endless", 1e9, timeout=HOUR / 2))
        receiver.statuses = [503]
        refused = await submit(client, waitd, job_wait(jobs, receiver, "done", 0.0))
        await until(lambda: len(receiver.digests[refused]) == 1, 60, "the first attempt")
        for step in (HOUR, -2 * HOUR):
            await waitd.kill(signal.SIGTERM)
            clocks.jump(wall=step)
            await waitd.start()
            await waitd.logged("wall_clock_jumped")
            waitd.log.clear()
            polled = jobs.requests["endless"] + 3
            await until(lambda: jobs.requests["endless"] >= polled, 60, "more pokes")  # noqa: B023
            assert (await get_wait(client, waitd, waiting))["state"] == "waiting"
            assert len(receiver.digests[refused]) == 1
        await waitd.kill(signal.SIGKILL)
        clocks.jump(wall=HOUR, monotonic=HOUR)
        await waitd.start()
        await until(lambda: receiver.digests[waiting], 60, "the outcome of the wait")
        await until(lambda: len(receiver.digests[refused]) == 2, 60, "the second attempt")
