"""`waitd watch`: print outcomes as they happen, or wait for one wait to end."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.completion import complete_id, complete_state
from waitd.cli.console import ExitCode, fail, print_error, print_json_text, stderr_console, stdout_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.options import (
    DEFAULT_URL,
    Json,
    Kind,
    Labels,
    Url,
    check_wait_id,
    examples,
    help_text,
    parse_labels,
)
from waitd.cli.outcomes import RECONNECT_SECONDS, outcome_exit_code, wait_for_outcomes

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod
    from rich.text import Text

    from waitd.client import Client

#: Width of the state column, with the gap after it.
STATE_WIDTH = 11


def watch(
    wait_id: Annotated[
        str | None,
        typer.Argument(
            help="The wait to wait for. Without it, every outcome is printed as it happens.",
            metavar="ID",
            show_default=False,
            autocompletion=complete_id,
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Only outcomes with this state: success, failed, timeout or cancelled.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = None,
    kind: Kind = None,
    label: Labels = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print outcomes as they happen, until Ctrl-C. With an ID, wait until that wait ends; the exit
    code tells its outcome.

    If the connection to the daemon breaks, it is opened again, and the outcomes in between are not
    missed. With --json each outcome is printed as its CloudEvents 1.0 event, one on a line; with an
    ID, the wait is printed as the API shows it.
    """
    if wait_id is not None:
        if state or kind or label:
            fail("--state, --kind and --label filter outcomes; they do not go with an ID.", ExitCode.USAGE)
        wait = call_daemon(url, lambda client: client.get(check_wait_id(wait_id)))
        ended = wait_for_outcomes(url, [wait["id"]], as_json=as_json)
        raise typer.Exit(outcome_exit_code(ended))
    follow_outcomes(url, OutcomeFilter(state, kind, parse_labels(label)), as_json=as_json)


class OutcomeFilter:
    """Which outcomes are printed."""

    def __init__(self, state: str | None, kind: str | None, labels: Mapping[str, str]) -> None:
        self._fields = {
            name: value for name, value in (("state", state), ("kind", kind)) if value is not None
        }
        self._labels = labels

    def matches(self, outcome: Mapping[str, Any]) -> bool:
        """Whether the outcome is printed."""
        return all(outcome[name] == value for name, value in self._fields.items()) and all(
            outcome["labels"].get(name) == value for name, value in self._labels.items()
        )


def follow_outcomes(url: str, outcome_filter: OutcomeFilter, *, as_json: bool) -> None:
    """Prints matching outcomes until the command is interrupted."""
    import orjson

    stream, out = OutcomeStream(url), stdout_console()

    def on_event(event: str) -> None:
        outcome = orjson.loads(event)["data"]
        if not outcome_filter.matches(outcome):
            return
        stream.counts[outcome["state"]] += 1
        if as_json:
            print_json_text(event)
            sys.stdout.flush()
        else:
            overflow: OverflowMethod = "ellipsis" if out.is_terminal else "ignore"
            out.print(render_outcome(outcome), no_wrap=True, overflow=overflow, crop=out.is_terminal)

    # On one terminal, lines and footer share a console. JSON lines bypass it, so no footer then.
    footer_console = stderr_console() if not out.is_terminal else None if as_json else out
    with _footer(footer_console, stream):
        call_daemon(url, lambda client: stream.read(client, on_event))


class OutcomeStream:
    """The daemon's event stream, resumed after each interruption, and a summary of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.counts: Counter[str] = Counter()
        self._status = ""

    def render_summary(self) -> "Text":
        """The connection's status and the outcomes so far, on one line."""
        from rich.text import Text

        counts = ", ".join(f"{count:,} {state}" for state, count in self.counts.most_common())
        line = " · ".join(filter(None, [self._status, counts or "no outcome yet", "Ctrl-C ends"]))
        return Text(line, "dim", no_wrap=True, overflow="ellipsis")

    def _set_status(self, status: str) -> None:
        console = stderr_console()
        if status != self._status and not console.is_terminal:
            console.print(status, markup=False)
        self._status = status

    async def read(self, client: "Client", on_event: Callable[[str], None]) -> None:
        """Calls `on_event` with each event, forever.

        Raises:
            DaemonUnreachable, RequestRefused: the stream could not be opened the first time.
        """
        from waitd.client import DaemonUnreachable, RequestRefused

        last_id: str | None = None
        while True:
            try:
                async with aclosing(client.follow(last_id)) as events:
                    async for event in events:
                        self._set_status(f"Watching {self.url}")
                        last_id = event.id
                        if event.data:
                            on_event(event.data)
            except DaemonUnreachable:
                if not self._status:
                    raise
            except RequestRefused as error:
                if error.status == 410 and last_id is not None:
                    print_error("the daemon no longer has the events that came next: outcomes are missing.")
                    last_id = None
                    continue
                if error.status not in {429, 503} or not self._status:
                    raise
            self._set_status("The daemon does not answer; trying again")
            await asyncio.sleep(RECONNECT_SECONDS)


def render_outcome(outcome: Mapping[str, Any]) -> "Text":
    """One outcome on one line: time, state, id, message, labels, kind and duration."""
    from rich.text import Text

    from waitd.cli.display.formatting import format_duration, pluralize
    from waitd.cli.display.waits import styled_state
    from waitd.core.visible_text import visible_values

    finished_at = datetime.fromisoformat(outcome["finished_at"])
    duration = (finished_at - datetime.fromisoformat(outcome["created_at"])).total_seconds()
    outcome = visible_values(outcome)
    labels = " ".join(f"{name}={value}" for name, value in outcome["labels"].items())
    message = outcome["message"] or (outcome["reason"] if outcome["reason"] != outcome["state"] else "")
    after = f"{outcome['kind']} after {format_duration(duration)}, {pluralize(outcome['pokes'], 'poke')}"
    return Text.assemble(
        (finished_at.astimezone().strftime("%H:%M:%S"), "dim"),
        "  ",
        styled_state(outcome["state"]),
        " " * (STATE_WIDTH - len(outcome["state"])),
        outcome["wait_id"],
        "  ",
        " · ".join(filter(None, [message, labels, after])),
    )


def _footer(console: "Console | None", stream: OutcomeStream) -> AbstractContextManager[object]:
    if console is None or not console.is_terminal:
        return nullcontext()
    from rich.live import Live

    return Live(get_renderable=stream.render_summary, console=console, transient=True, refresh_per_second=4)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(watch),
        epilog=examples(
            "waitd watch",
            "waitd watch 0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f",
            "waitd watch --state failed --label dag_id=orders",
            "waitd watch --json | jq -c '.data | {wait_id, state, message}'",
        ),
    )(watch)
