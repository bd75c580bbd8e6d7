"""What waitd is compared with: one asyncio task and one aiohttp client for each wait, as Airflow's triggers are written.

`python -m waitd.bench.task_per_wait WAITS ENDS`: reads waits, a JSON object a line, says `ready`, begins when told to by a line on standard
input, and appends a line to ENDS as each wait ends: path, state and Unix second. It ends with its standard input.
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

from waitd.bench.machine import open_as_many_files_as_allowed


async def hold(wait: Mapping[str, Any], ends: TextIO) -> None:
    """One wait, until it ends."""
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
            if (
                time.monotonic() >= deadline
            ):  # a request that timed out in the same moment swallows the wait's own end
                raise TimeoutError
            await asyncio.sleep(wait["poke_interval"])


def end_of(status: int, content: bytes) -> str | None:
    """The state in which an answer ends a wait, as the conditions of `waitd.bench.jobs` say; None: it goes on."""
    if 400 <= status < 500 and status not in {404, 408, 425, 429}:
        return "failed"
    if not 200 <= status < 300:
        return None
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    said = body.get("status") if isinstance(body, dict) else None
    return {"SUCCEEDED": "success", "FAILED": "failed"}.get(said) if isinstance(said, str) else None


async def run(waits: Sequence[Mapping[str, Any]], ends: TextIO) -> None:
    """Everything, until standard input ends."""
    loop = asyncio.get_running_loop()
    told, gone = asyncio.Event(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: told.set() if os.read(0, 4096) else gone.set())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await told.wait()
    tasks = [asyncio.create_task(hold(wait, ends)) for wait in waits]
    await gone.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    open_as_many_files_as_allowed()
    given = [orjson.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
    with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
        asyncio.run(run(given, file))
