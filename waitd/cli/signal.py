"""`waitd signal`: tells a daemon that what waits wait for has come."""

from typing import Annotated, Any

import typer

from waitd.cli.common import DEFAULT_URL, Code, Json, Url, ask, described, examples, fail, put_json
from waitd.cli.display.formatting import counted


def signal(
    key: Annotated[str, typer.Argument(help="The key that waits listen to.", metavar="KEY")],
    payload: Annotated[
        str | None, typer.Option(help="The payload, in JSON; default: null.", metavar="JSON")
    ] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Send a signal: it ends waits of kind signal under its key, and makes those poke at once that wake on it.

    It is kept for a while, for waits that come later. Sending it again changes nothing.
    """
    value = _decoded(payload) if payload is not None else None
    kept = ask(url, lambda client: client.signal(key, value))
    if as_json:
        put_json(kept)
    else:
        typer.echo(f"{kept['key']} is kept; {counted(kept['waits'], 'wait')} listening now")


def _decoded(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"--payload is no JSON: {error}", Code.USAGE)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(signal),
        epilog=examples(
            "waitd signal etl/2026-11-21/approved",
            """waitd signal etl/2026-11-21/approved --payload '{"by": "ops"}'""",
        ),
    )(signal)
