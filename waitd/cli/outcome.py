"""Waiting for outcomes from outside: long polls at the daemon until every wait has ended."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waitd.cli.common import Code, ask, notes, put_json

if TYPE_CHECKING:
    from waitd.client import Client

#: Seconds of one long poll.
LONG_POLL = 30.0
#: Seconds between two tries to reach a daemon that is away: it may be restarting, and what it accepted goes on then.
AWAY = 1.0


def wait_for_all(url: str, ids: Sequence[str], *, as_json: bool) -> Sequence[dict[str, Any]]:
    """The waits, ended, in order; each is printed as it is found ended, and a daemon that is away is asked again."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    ended: list[dict[str, Any]] = []

    async def work(client: "Client") -> None:
        console = notes()
        columns = (
            TextColumn("Waiting"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(ids))
            for wait_id in ids:
                ended.append(await _ended(client, wait_id, lambda text: bar.update(task, description=text)))
                bar.advance(task)

    ask(url, work)
    for wait in ended:
        if as_json:
            put_json(wait)
        else:
            outcome = wait["outcome"] or {}
            said = " · ".join(
                filter(None, [wait["id"], wait["state"], outcome.get("reason"), outcome.get("message")])
            )
            sys.stdout.write(said + "\n")
    if len(ended) > 1 and not as_json:
        counts = Counter(wait["state"] for wait in ended)
        notes().print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    return ended


async def _ended(client: "Client", wait_id: str, say: Any) -> dict[str, Any]:
    from waitd.client import DaemonUnreachable, Refused

    while True:
        try:
            wait = await client.get(wait_id, LONG_POLL)
        except DaemonUnreachable:
            say("the daemon is away; asking again")
            await asyncio.sleep(AWAY)
        except Refused as error:
            if error.status not in {429, 503}:
                raise
            await asyncio.sleep(AWAY)
        else:
            if wait["state"] != "waiting":
                return wait
            seen = wait["last_verdict"]
            say(f"last seen: {seen['message'] or seen['reason']}" if seen else "")


def exit_code_of(ended: Sequence[dict[str, Any]]) -> Code:
    """0 where all succeeded, 1 where any failed or was cancelled, else 124."""
    states = {wait["state"] for wait in ended}
    if states & {"failed", "cancelled"}:
        return Code.FAILED
    return Code.TIMEOUT if "timeout" in states else Code.OK
