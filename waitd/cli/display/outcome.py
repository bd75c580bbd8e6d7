"""Waiting for outcomes from outside: long polls at the daemon until every wait has ended, and what is shown meanwhile."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from waitd.cli.common import Code, ask, notes, put_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from waitd.client import Client

#: Seconds of one long poll: among many waits, and where one is watched, whose progress is shown.
LONG_POLL = 30.0
GLANCE = 2.0
#: Seconds between two tries to reach a daemon that is away: it may be restarting, and what it accepted goes on then.
AWAY = 1.0

#: Called with a wait that goes on, as the API shows it, or with None while the daemon is away.
Say = Callable[[dict[str, Any] | None], None]


def wait_for_all(url: str, ids: Sequence[str], *, as_json: bool) -> Sequence[dict[str, Any]]:
    """The waits, ended, in order; each is printed, and a daemon that is away is asked again."""
    console, ended = notes(), list[dict[str, Any]]()
    progress = _One(console) if len(ids) == 1 else _Many(console, len(ids))

    async def work(client: "Client") -> None:
        for wait_id in ids:
            ended.append(await _ended(client, wait_id, progress.say, progress.poll))
            progress.advance()

    with progress.shown:
        ask(url, work)
    for wait in ended:
        if as_json:
            put_json(wait)
        else:
            outcome = wait["outcome"]
            said = [wait["id"], wait["state"], outcome["reason"], outcome["message"]]
            sys.stdout.write(" · ".join(filter(None, said)) + "\n")
    if len(ended) > 1 and not as_json:
        counts = Counter(wait["state"] for wait in ended)
        console.print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    return ended


async def _ended(client: "Client", wait_id: str, say: Say, poll: float) -> dict[str, Any]:
    from waitd.client import DaemonUnreachable, RequestRefused

    seconds = 0.0
    while True:
        try:
            wait = await client.get(wait_id, seconds)
        except DaemonUnreachable:
            say(None)
            await asyncio.sleep(AWAY)
        except RequestRefused as error:
            if error.status not in {429, 503}:
                raise
            await asyncio.sleep(AWAY)
        else:
            if wait["state"] != "waiting":
                return wait
            say(wait)
            seconds = poll


class _Many:
    """A bar of how many have ended, where there is a terminal."""

    poll = LONG_POLL

    def __init__(self, console: "Console", total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("Waiting"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self.shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self.shown.add_task("", total=total)

    def say(self, wait: dict[str, Any] | None) -> None:
        """What the next one to end last saw."""
        seen = wait["last_verdict"] if wait else None
        away = "the daemon is away; asking again" if wait is None else ""
        text = f"last seen: {seen['message'] or seen['reason']}" if seen else away
        self.shown.update(self._task, description=text)

    def advance(self) -> None:
        """One more has ended."""
        self.shown.advance(self._task)


class _One:
    """One wait: a line that tells how it stands now; where there is no terminal, a line when something else is seen than before."""

    poll = GLANCE

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._wait: dict[str, Any] | None = None
        self._said = ""
        self.shown: AbstractContextManager[object] = nullcontext()
        if console.is_terminal:
            from rich.live import Live

            self.shown = Live(
                get_renderable=self._line, console=console, transient=True, refresh_per_second=4
            )

    def say(self, wait: dict[str, Any] | None) -> None:
        """How it stands."""
        self._wait = wait
        if self._console.is_terminal:
            return
        seen = wait["last_verdict"] if wait else {"verdict": "the daemon is away; asking again"}
        said = " · ".join(word for word in map((seen or {}).get, ("verdict", "reason", "message")) if word)
        if said != self._said:
            self._said = said
            self._console.print(said, markup=False)

    def advance(self) -> None:
        """Nothing to count."""

    def _line(self) -> "Text":
        from rich.text import Text

        from waitd.cli.display.waits import standing_of

        if self._wait is None:
            return Text("asking the daemon", "dim")
        return standing_of(self._wait, datetime.now(UTC))


def exit_code_of(ended: Sequence[dict[str, Any]]) -> Code:
    """0 where all succeeded, 1 where any failed or was cancelled, else 124."""
    states = {wait["state"] for wait in ended}
    if states & {"failed", "cancelled"}:
        return Code.FAILED
    return Code.TIMEOUT if "timeout" in states else Code.OK
