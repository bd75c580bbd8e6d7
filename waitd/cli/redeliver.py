"""`waitd redeliver`: deliver stored outcomes again, of given waits or of all dead deliveries."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.cli.completion import complete_id
from waitd.cli.console import ExitCode, fail, print_json
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.display.formatting import pluralize
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text
from waitd.cli.waits import act_on_waits

if TYPE_CHECKING:
    from waitd.client import Client


def redeliver(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="The ids of waits that have ended.", metavar="ID", autocompletion=complete_id),
    ] = None,
    dead: Annotated[
        bool,
        typer.Option("--dead", help="All dead deliveries that were not delivered again since."),
    ] = False,
    sink: Annotated[
        str | None,
        typer.Option(
            help="With --dead: only deliveries to sinks of this kind, e.g. webhook.", metavar="KIND"
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --dead: do not ask for confirmation.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Deliver the stored outcomes of waits again, to each of their sinks. With --dead, repeat all
    dead deliveries: those that waitd has given up.

    The event is the same, byte for byte. Each is a new delivery with its own attempts.
    """
    if bool(ids) == dead:
        fail("give the IDs of waits, or --dead.", ExitCode.USAGE)
    if ids:
        if sink or yes:
            fail("--sink and --yes need --dead.", ExitCode.USAGE)
        act_on_waits("redeliver", ids, url, as_json, lambda wait: f"{wait['id']} queued again")
    redeliver_dead(url, sink, yes=yes, as_json=as_json)


def redeliver_dead(url: str, sink: str | None, *, yes: bool, as_json: bool) -> None:
    """Asks for confirmation with the number of dead deliveries, then queues all of them again."""
    query = {"sink": sink} if sink else {}

    async def count(client: "Client") -> Counter[str]:
        return Counter([delivery["sink"] async for delivery in client.dead(query)])

    async def redeliver_all(client: "Client") -> int:
        total, more = 0, True
        while more:  # each call queues a bounded number
            answer = await client.redeliver_dead(query)
            total, more = total + answer["redelivered"], answer["more"] and answer["redelivered"] > 0
        return total

    if not yes:
        by_sink = call_daemon(url, count)
        if by_sink and not _confirm(by_sink):
            raise typer.Exit(ExitCode.FAILED)
    total = call_daemon(url, redeliver_all)
    if as_json:
        print_json({"redelivered": total})
    else:
        sys.stdout.write(
            f"{pluralize(total, 'dead delivery')} queued again\n" if total else "nothing to deliver again\n"
        )


def _confirm(by_sink: Counter[str]) -> bool:
    if not sys.stdin.isatty():
        fail("without a terminal to ask for confirmation, --dead needs --yes.", ExitCode.USAGE)
    counts = ", ".join(f"{count:,} to {sink}" for sink, count in by_sink.most_common())
    try:
        return typer.confirm(f"Dead deliveries: {counts}. Deliver again those that were not yet?", err=True)
    except typer.Abort:  # Ctrl-C has the same exit code in every command
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(redeliver),
        epilog=examples(
            "waitd redeliver 0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f",
            "waitd redeliver --dead",
            "waitd redeliver --dead --sink webhook --yes",
        ),
    )(redeliver)
