"""`waitd redeliver`: outcomes once more, of waits that are named, or all that were given up."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.cli.common import DEFAULT_URL, Code, Json, Url, ask, described, examples, fail, put_json
from waitd.cli.completion import complete_id
from waitd.cli.display.formatting import counted
from waitd.cli.waits import act

if TYPE_CHECKING:
    from waitd.client import Client


def redeliver(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of ended waits.", metavar="ID", autocompletion=complete_id),
    ] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Every delivery that was given up and not sent anew since.")
    ] = False,
    sink: Annotated[
        str | None,
        typer.Option(help="With --dead: only those to sinks of this kind, e.g. webhook.", metavar="KIND"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --dead: do not ask first.")] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Deliver stored outcomes once more: of ended waits, to each of their sinks; or with --dead, whatever was given up.

    The event is the same, byte for byte; each is a new delivery with attempts of its own.
    """
    if bool(ids) == dead:
        fail("name waits by their IDs, or ask for --dead.", Code.USAGE)
    if ids:
        if sink or yes:
            fail("--sink and --yes go with --dead.", Code.USAGE)
        act("redeliver", ids, url, as_json, lambda wait: f"{wait['id']} queued again")
    redeliver_dead(url, sink, yes=yes, as_json=as_json)


def redeliver_dead(url: str, sink: str | None, *, yes: bool, as_json: bool) -> None:
    """Counts the dead deliveries, asks whether to go on, and queues them anew, as many calls as it takes."""
    wanted = {"sink": sink} if sink else {}

    async def count(client: "Client") -> Counter[str]:
        return Counter([delivery["sink"] async for delivery in client.dead(wanted)])

    async def send(client: "Client") -> int:
        total, more = 0, True
        while more:
            done = await client.redeliver_dead(wanted)
            total, more = total + done["redelivered"], done["more"] and done["redelivered"] > 0
        return total

    if not yes:
        found = ask(url, count)
        if found and not _agreed(found):
            raise typer.Exit(Code.FAILED)
    total = ask(url, send)
    if as_json:
        put_json({"redelivered": total})
    else:
        sys.stdout.write(
            f"{counted(total, 'dead delivery')} queued again\n" if total else "nothing to deliver anew\n"
        )


def _agreed(found: Counter[str]) -> bool:
    if not sys.stdin.isatty():
        fail("say --yes where there is nobody to ask.", Code.USAGE)
    kinds = ", ".join(f"{count:,} to {sink}" for sink, count in found.most_common())
    try:
        return typer.confirm(f"Dead deliveries: {kinds}. Send anew those that were not since?", err=True)
    except typer.Abort:  # Ctrl-C, which ends every command in the same way
        raise typer.Exit(Code.INTERRUPTED) from None


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(redeliver),
        epilog=examples(
            "waitd redeliver 0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f",
            "waitd redeliver --dead",
            "waitd redeliver --dead --sink webhook --yes",
        ),
    )(redeliver)
