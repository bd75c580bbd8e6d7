"""`waitd signal`: send a signal to the waits that listen for it."""

from typing import Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_json, print_line
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.display.formatting import pluralize
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text


def signal(
    key: Annotated[str, typer.Argument(help="The key that waits listen for.", metavar="KEY")],
    payload: Annotated[
        str | None, typer.Option(help="The payload, as JSON. (default: null)", metavar="JSON")
    ] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Send a signal. It ends waits of kind signal that listen for its key, and makes waits whose
    wake_on is its key poke at once.

    The daemon keeps the signal for a while, for waits that are submitted later. Sending it again
    changes nothing.
    """
    value = _decode_payload(payload) if payload is not None else None
    answer = call_daemon(url, lambda client: client.signal(key, value))
    if as_json:
        print_json(answer)
    else:
        print_line(f"{answer['key']} is stored; {pluralize(answer['waits'], 'wait')} listening now")


def _decode_payload(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"--payload is not JSON: {error}", ExitCode.USAGE)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(signal),
        epilog=examples(
            "waitd signal etl/2026-11-21/approved",
            """waitd signal etl/2026-11-21/approved --payload '{"by": "ops"}'""",
        ),
    )(signal)
