"""`waitd list`, `waitd show` and `waitd cancel`: the waits of a running daemon."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.completion import complete_id, complete_state
from waitd.cli.console import (
    UNCUT_WIDTH,
    ExitCode,
    describe_refusal,
    print_error,
    print_json,
    print_line,
    stdout_console,
)
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

if TYPE_CHECKING:
    from waitd.client import Client

#: In place of a state: the wait's stored row cannot be read.
UNREADABLE = "unreadable"
_EXAMPLE_ID = "0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f"


def list_waits(
    state: Annotated[
        str | None,
        typer.Option(
            help="Only waits in this state: waiting, success, failed, timeout or cancelled; unreadable lists "
            "those whose stored row cannot be read.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = None,
    kind: Kind = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="The maximum number of waits.")] = 50,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List waits, newest first. With --json, one wait a line."""
    query = {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
    query |= {f"label.{name}": value for name, value in parse_labels(label).items()}
    waits = call_daemon(url, lambda client: client.find(query, limit))
    if as_json:
        for wait in waits:
            print_json(wait)
        return
    from waitd.cli.display.unreadable import render_unreadable
    from waitd.cli.display.waits import render_table

    console = stdout_console()
    if waits and state == UNREADABLE:
        console.print(render_unreadable(waits))
        return
    console.print(
        render_table(waits, console.width) if waits else "No waits." if not query else "No waits match."
    )


def show(
    wait_id: Annotated[
        str, typer.Argument(help="The id of a wait.", metavar="ID", autocompletion=complete_id)
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one wait: why it still waits, the results of its pokes, its next poke, and its
    deliveries.

    With --json the wait is printed as the API returns it, with two more fields: `runs`, its poke
    results with equal ones grouped, and `why`, the explanation.
    """
    from datetime import UTC, datetime

    from waitd.cli.display.explain import explain

    async def work(client: "Client") -> tuple[dict[str, Any], dict[str, Any]]:
        wait = await client.get(check_wait_id(wait_id))
        return wait, {} if wait["state"] == UNREADABLE else await client.pokes(wait_id)

    wait, pokes = call_daemon(url, work)
    if wait["state"] == UNREADABLE:
        if as_json:
            print_json(wait)
        else:
            from waitd.cli.display.unreadable import render_unreadable

            stdout_console().print(render_unreadable([wait], whole=True))
        return
    why = explain(wait, pokes["runs"], datetime.now(UTC))
    if as_json:
        print_json({**wait, "runs": pokes["runs"], "why": why})
        return
    from waitd.cli.display.waits import render_details

    stdout_console(UNCUT_WIDTH).print(render_details(wait, pokes["runs"], why))


def cancel(
    ids: Annotated[
        list[str], typer.Argument(help="The ids of the waits.", metavar="ID", autocompletion=complete_id)
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Cancel waits. Their outcome, cancelled, is delivered to their sinks.

    A wait that has already ended is not changed; that is an error.
    """
    act_on_waits("cancel", ids, url, as_json, lambda wait: f"{wait['id']} {wait['state']}")


def act_on_waits(
    action: str, ids: Sequence[str], url: str, as_json: bool, describe: Callable[[dict[str, Any]], str]
) -> None:
    """Applies an action of the API to each wait, prints the results and ends the command.

    A refusal for one wait does not stop the others.
    """
    from waitd.client import RequestRefused

    refused = 0

    async def work(client: "Client") -> None:
        nonlocal refused
        for wait_id in ids:
            try:
                wait = await client.act(check_wait_id(wait_id), action)
            except RequestRefused as error:
                refused += 1
                print_error(f"{wait_id}: {describe_refusal(error)}")
                continue
            if as_json:
                print_json(wait)
            else:
                print_line(describe(wait))

    call_daemon(url, work)
    raise typer.Exit(ExitCode.FAILED if refused else ExitCode.OK)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "list",
        help=help_text(list_waits),
        epilog=examples(
            "waitd list --state waiting",
            "waitd list --label dag_id=orders --limit 200",
            "waitd list --state failed --json | jq -r .id",
        ),
    )(list_waits)
    app.command(
        help=help_text(show),
        epilog=examples(f"waitd show {_EXAMPLE_ID}", f"waitd show {_EXAMPLE_ID} --json | jq -r .why"),
    )(show)
    app.command(
        help=help_text(cancel),
        epilog=examples(
            f"waitd cancel {_EXAMPLE_ID}", "waitd cancel $(waitd list --state waiting --json | jq -r .id)"
        ),
    )(cancel)
