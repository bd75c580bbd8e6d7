"""`waitd list`, `show`, `cancel`, `redeliver`: the waits of a running daemon."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Json,
    Url,
    ask,
    complain,
    described,
    examples,
    fail,
    output,
    put_json,
    refusal,
)

if TYPE_CHECKING:
    from waitd.client import Client

Ids = Annotated[list[str], typer.Argument(help="Ids of waits.", metavar="ID...")]


def list_waits(
    state: Annotated[
        str | None, typer.Option(help="waiting, success, failed, timeout or cancelled.", metavar="STATE")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="What they poke, e.g. http.", metavar="KIND")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only with this label; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List waits, the newest first. With --json, one on a line."""
    query = {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
    for pair in label or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            fail(f"--label {pair}: write it as NAME=VALUE, e.g. --label dag_id=orders", Code.USAGE)
        query[f"label.{name}"] = value
    found = ask(url, lambda client: client.find(query, limit))
    if as_json:
        for wait in found:
            put_json(wait)
        return
    from waitd.cli.views import table_of

    console = output()
    console.print(
        table_of(found, console.width) if found else "No waits." if not query else "No waits match."
    )


def show(
    wait_id: Annotated[str, typer.Argument(help="The id of a wait.", metavar="ID")],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one wait: its state and since when, what its pokes saw, when it is poked next, and where its outcome went.

    With --json it is the API's answer, with the runs of equal verdicts as `runs`.
    """

    async def work(client: "Client") -> tuple[dict[str, Any], dict[str, Any]]:
        return await client.get(_checked(wait_id)), await client.pokes(wait_id)

    wait, pokes = ask(url, work)
    if as_json:
        put_json({**wait, "runs": pokes["runs"]})
        return
    from waitd.cli.views import details_of

    output().print(details_of(wait, pokes["runs"]))


def cancel(ids: Ids, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Cancel waits. Their sinks are told; a wait that has ended stays as it is, and that is an error."""
    _act("cancel", ids, url, as_json, lambda wait: f"{wait['id']} {wait['state']}")


def redeliver(ids: Ids, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Deliver the stored outcome of ended waits once more, to each of their sinks."""
    _act("redeliver", ids, url, as_json, lambda wait: f"{wait['id']} queued again")


def _act(
    action: str, ids: Sequence[str], url: str, as_json: bool, sentence: Callable[[dict[str, Any]], str]
) -> None:
    from waitd.client import Refused

    refused = 0

    async def work(client: "Client") -> None:
        nonlocal refused
        for wait_id in ids:
            try:
                wait = await client.act(_checked(wait_id), action)
            except Refused as error:
                refused += 1
                complain(f"{wait_id}: {refusal(error)}")
                continue
            if as_json:
                put_json(wait)
            else:
                typer.echo(sentence(wait))

    ask(url, work)
    raise typer.Exit(Code.FAILED if refused else Code.OK)


def _checked(wait_id: str) -> str:
    if wait_id in {"", ".", ".."}:
        fail(f"{wait_id!r} is no id of a wait.", Code.USAGE)
    return wait_id


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
    app.command(help=described(show), epilog=examples(f"waitd show {some}", f"waitd show {some} --json"))(
        show
    )
    app.command(
        help=described(cancel),
        epilog=examples(
            f"waitd cancel {some}", "waitd cancel $(waitd list --state waiting --json | jq -r .id)"
        ),
    )(cancel)
    app.command(help=described(redeliver), epilog=examples(f"waitd redeliver {some}"))(redeliver)
