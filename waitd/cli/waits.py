"""`waitd list`, `show`, `cancel`: the waits of a running daemon."""

from collections.abc import Callable, Sequence
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
    labels_of,
    output,
    put_json,
    refusal,
)
from waitd.cli.completion import complete_id, complete_state

if TYPE_CHECKING:
    from waitd.client import Client


def list_waits(
    state: Annotated[
        str | None,
        typer.Option(
            help="waiting, success, failed, timeout or cancelled.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="What they poke, e.g. http.", metavar="KIND")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List waits, the newest first. With --json, one on a line."""
    query = {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
    query |= {f"label.{name}": value for name, value in labels_of(label).items()}
    found = ask(url, lambda client: client.find(query, limit))
    if as_json:
        for wait in found:
            put_json(wait)
        return
    from waitd.cli.display.waits import table_of

    console = output()
    console.print(
        table_of(found, console.width) if found else "No waits." if not query else "No waits match."
    )


def show(
    wait_id: Annotated[
        str, typer.Argument(help="The id of a wait.", metavar="ID", autocompletion=complete_id)
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one wait: why it still waits, what its pokes saw, when it is poked next, and where its outcome went.

    With --json it is the API's answer, with the runs of equal verdicts as `runs` and the explanation as `why`.
    """
    from datetime import UTC, datetime

    from waitd.cli.display.explain import explain

    async def work(client: "Client") -> tuple[dict[str, Any], dict[str, Any]]:
        return await client.get(checked_id(wait_id)), await client.pokes(wait_id)

    wait, pokes = ask(url, work)
    why = explain(wait, pokes["runs"], datetime.now(UTC))
    if as_json:
        put_json({**wait, "runs": pokes["runs"], "why": why})
        return
    from waitd.cli.display.waits import details_of

    output().print(details_of(wait, pokes["runs"], why))


def cancel(
    ids: Annotated[list[str], typer.Argument(help="Ids of waits.", metavar="ID", autocompletion=complete_id)],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Cancel waits. Their sinks are told; a wait that has ended stays as it is, and that is an error."""
    act("cancel", ids, url, as_json, lambda wait: f"{wait['id']} {wait['state']}")


def act(
    action: str, ids: Sequence[str], url: str, as_json: bool, sentence: Callable[[dict[str, Any]], str]
) -> None:
    """Does one thing to each wait and ends the command; one that refuses it stops no other."""
    from waitd.client import RequestRefused

    refused = 0

    async def work(client: "Client") -> None:
        nonlocal refused
        for wait_id in ids:
            try:
                wait = await client.act(checked_id(wait_id), action)
            except RequestRefused as error:
                refused += 1
                complain(f"{wait_id}: {refusal(error)}")
                continue
            if as_json:
                put_json(wait)
            else:
                typer.echo(sentence(wait))

    ask(url, work)
    raise typer.Exit(Code.FAILED if refused else Code.OK)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "list",
        help=described(list_waits),
        epilog=examples(
            "waitd list --state waiting",
            "waitd list --label dag_id=orders --limit 200",
            "waitd list --state failed --json | jq -r .id",
        ),
    )(list_waits)
    some = "0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f"
    app.command(
        help=described(show), epilog=examples(f"waitd show {some}", f"waitd show {some} --json | jq -r .why")
    )(show)
    app.command(
        help=described(cancel),
        epilog=examples(
            f"waitd cancel {some}", "waitd cancel $(waitd list --state waiting --json | jq -r .id)"
        ),
    )(cancel)
