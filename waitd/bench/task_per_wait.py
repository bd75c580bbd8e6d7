"""A comparator: one asyncio task and aiohttp session per wait, as in Airflow's triggers.

    python -m waitd.bench.task_per_wait WAITS ENDS

Reads WAITS, one JSON object a line, prints `ready`, and starts when a line arrives on standard
input. Appends path, state and Unix second to ENDS as each wait ends. Exits when standard input
ends.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import orjson

from waitd.bench.machine import raise_file_limit


async def hold(wait: Mapping[str, Any], ends: TextIO) -> None:
    """Runs one wait until it ends."""
    try:
        async with asyncio.timeout(wait["timeout"]):
            state = await _poke_until_end(wait)
    except TimeoutError:
        state = "timeout"
    ends.write(f"{wait['path']}\t{state}\t{time.time()}\n")
    ends.flush()


async def _poke_until_end(wait: Mapping[str, Any]) -> str:
    timeout, deadline = (
        aiohttp.ClientTimeout(total=wait["request_timeout"]),
        time.monotonic() + wait["timeout"],
    )
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            try:
                async with session.get(wait["endpoint"], allow_redirects=False) as answer:
                    state = end_of(answer.status, await answer.read())
            except (aiohttp.ClientError, TimeoutError, OSError):
                state = None
            if state is not None:
                return state
            # A request that times out at the same moment swallows the timeout of the wait.
            if time.monotonic() >= deadline:
                raise TimeoutError
            await asyncio.sleep(wait["poke_interval"])


def end_of(status: int, content: bytes) -> str | None:
    """The state in which an answer ends a wait, by the conditions in `waitd.bench.jobs`.

    None: it continues.
    """
    if 400 <= status < 500 and status not in {404, 408, 425, 429}:
        return "failed"
    if not 200 <= status < 300:
        return None
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    word = body.get("status") if isinstance(body, dict) else None
    return {"SUCCEEDED": "success", "FAILED": "failed"}.get(word) if isinstance(word, str) else None


async def run(waits: Sequence[Mapping[str, Any]], ends: TextIO) -> None:
    """Runs all waits until standard input ends."""
    loop = asyncio.get_running_loop()
    started, stopped = asyncio.Event(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: started.set() if os.read(0, 4096) else stopped.set())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await started.wait()
    tasks = [asyncio.create_task(hold(wait, ends)) for wait in waits]
    await stopped.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    raise_file_limit()
    waits_to_run = [orjson.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
    with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
        asyncio.run(run(waits_to_run, file))
