"""`waitd watch`: outcomes as they come, or one wait until it ends."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Json,
    Labels,
    Url,
    ask,
    checked_id,
    complain,
    described,
    examples,
    fail,
    labels_of,
    notes,
    output,
)
from waitd.cli.completion import complete_id, complete_state
from waitd.cli.display.outcome import AWAY, exit_code_of, wait_for_all

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from waitd.client import Client

#: Columns of the state, the gap after it included.
STATE_WIDTH = 11


def watch(
    wait_id: Annotated[
        str | None,
        typer.Argument(
            help="A wait to watch until it ends; without it, every outcome as it comes.",
            metavar="ID",
            show_default=False,
            autocompletion=complete_id,
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Only outcomes of this state: success, failed, timeout or cancelled.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, e.g. http.", metavar="KIND")] = None,
    label: Labels = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Watch outcomes as they come, until Ctrl-C; or one wait until it ends, and tell its outcome by the exit code.

    A daemon that goes away is asked again, and outcomes of the time between are not missed. With --json, each outcome is its event
    (CloudEvents 1.0) on a line; of one wait, the wait as the API shows it.
    """
    if wait_id is not None:
        if state or kind or label:
            fail("--state, --kind and --label choose among outcomes; a wait is named by its ID.", Code.USAGE)
        known = ask(url, lambda client: client.get(checked_id(wait_id)))
        ended = wait_for_all(url, [known["id"]], as_json=as_json)
        raise typer.Exit(exit_code_of(ended))
    wanted = Wanted(state, kind, labels_of(label))
    follow(url, wanted, as_json=as_json)


class Wanted:
    """Which outcomes are shown."""

    def __init__(self, state: str | None, kind: str | None, labels: Mapping[str, str]) -> None:
        self._exact = {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
        self._labels = labels

    def __call__(self, outcome: Mapping[str, Any]) -> bool:
        """Whether this one is."""
        return all(outcome[name] == value for name, value in self._exact.items()) and all(
            outcome["labels"].get(name) == value for name, value in self._labels.items()
        )


def follow(url: str, wanted: Wanted, *, as_json: bool) -> None:
    """Prints what comes in until it is interrupted."""
    import orjson

    feed, out = Feed(url), output()

    def take(line: str) -> None:
        event = orjson.loads(line)
        outcome = event["data"]
        if not wanted(outcome):
            return
        feed.counts[outcome["state"]] += 1
        if as_json:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        else:
            out.print(line_of(outcome), no_wrap=True, overflow="ellipsis", crop=out.is_terminal)

    # Lines and footer go through one console where both go to one terminal; lines of JSON must stay whole.
    footer = notes() if not out.is_terminal else None if as_json else out
    with _footer(footer, feed):
        ask(url, lambda client: feed.read(client, take))


class Feed:
    """The stream of events, taken up again where it broke off; and what there is to say of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.counts: Counter[str] = Counter()
        self._doing = ""

    def text(self) -> "Text":
        """What it does and has seen so far, as one line."""
        from rich.text import Text

        seen = ", ".join(f"{count:,} {state}" for state, count in self.counts.most_common())
        line = " · ".join(filter(None, [self._doing, seen or "no outcome yet", "Ctrl-C ends"]))
        return Text(line, "dim", no_wrap=True, overflow="ellipsis")

    def _do(self, doing: str) -> None:
        console = notes()
        if doing != self._doing and not console.is_terminal:
            console.print(doing, markup=False)
        self._doing = doing

    async def read(self, client: "Client", take: Callable[[str], None]) -> None:
        """Reads for ever. Raises what stands in the way of the first stream."""
        from waitd.client import DaemonUnreachable, RequestRefused

        last: str | None = None
        while True:
            try:
                async with aclosing(client.follow(last)) as events:
                    async for event in events:
                        self._do(f"Watching {self.url}")
                        last = event.id
                        if event.data:
                            take(event.data)
            except DaemonUnreachable:
                if not self._doing:
                    raise
            except RequestRefused as error:
                if error.status == 410 and last is not None:
                    complain("the daemon does not know any more what came next: outcomes are missing here.")
                    last = None
                    continue
                if error.status not in {429, 503} or not self._doing:
                    raise
            self._do("The daemon is away; asking again")
            await asyncio.sleep(AWAY)


def line_of(outcome: Mapping[str, Any]) -> "Text":
    """One outcome on one line: when, what, which, how long it took, and what was said."""
    from rich.text import Text

    from waitd.cli.display.formatting import counted, span
    from waitd.cli.display.waits import word

    at = datetime.fromisoformat(outcome["finished_at"])
    took = (at - datetime.fromisoformat(outcome["created_at"])).total_seconds()
    labels = " ".join(f"{name}={value}" for name, value in outcome["labels"].items())
    said = outcome["message"] or (outcome["reason"] if outcome["reason"] != outcome["state"] else "")
    after = f"{outcome['kind']} after {span(took)}, {counted(outcome['pokes'], 'poke')}"
    return Text.assemble(
        (at.astimezone().strftime("%H:%M:%S"), "dim"),
        "  ",
        word(outcome["state"]),
        " " * (STATE_WIDTH - len(outcome["state"])),
        outcome["wait_id"],
        "  ",
        " · ".join(filter(None, [said, labels, after])),
    )


def _footer(console: "Console | None", feed: Feed) -> AbstractContextManager[object]:
    if console is None or not console.is_terminal:
        return nullcontext()
    from rich.live import Live

    return Live(get_renderable=feed.text, console=console, transient=True, refresh_per_second=4)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(watch),
        epilog=examples(
            "waitd watch",
            "waitd watch 0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f",
            "waitd watch --state failed --label dag_id=orders",
            "waitd watch --json | jq -c '.data | {wait_id, state, message}'",
        ),
    )(watch)
