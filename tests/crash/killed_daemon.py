"""A daemon that kills itself at a point of `crashing_daemon.py`, for the tests of crashes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from daemon import Daemon

SCRIPT = Path(__file__).with_name("crashing_daemon.py")


@asynccontextmanager
async def daemon_killed_at(point: str, state_dir: Path, *, after: int = 1) -> AsyncIterator[Daemon]:
    """Runs a daemon that dies when it reaches `point` for the `after`-th time.

    When it is started again, it no longer does.
    """
    waitd = Daemon(state_dir, script=SCRIPT)
    try:
        await waitd.start(CRASH_AT=point, CRASH_AFTER=str(after))
        yield waitd
    finally:
        await waitd.kill()
