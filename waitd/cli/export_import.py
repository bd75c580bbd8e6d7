"""`waitd export` and `waitd import`: move waits from one daemon to another, as JSON lines.

A line is `{"id", "state", "deadline", "wait"}`. `wait` is the body to submit. Its idempotency key
is made from the id, so an import can be repeated. Its timeout is computed at the import, as the
time left until `deadline`.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from waitd.cli.completion import complete_state
from waitd.cli.console import ExitCode, fail, print_error, print_json, stderr_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.display.formatting import pluralize
from waitd.cli.exported_lines import UNREADABLE, daemon_waits, export_line, mended, stored_waits
from waitd.cli.options import DEFAULT_URL, Config, Json, Url, examples, help_text, load_settings
from waitd.cli.submit import print_refused, read_waits, submit_many

if TYPE_CHECKING:
    from waitd.client import Client

#: The timeout, in seconds, of a wait whose deadline has passed: it is poked once.
MIN_TIMEOUT = 0.001
#: Kinds whose verdict depends on the results of earlier pokes.
STATEFUL_KINDS = {"s3_keys_unchanged"}
NOT_EXPORTED = "Not exported: ids, results of pokes, idempotency keys of clients, and deliveries in progress."


class ImportResult(NamedTuple):
    """The daemon's answers to an import, in order, and how many waits it accepted or refused.

    `existing` are waits that the daemon already has.
    """

    answers: Sequence[Mapping[str, Any]]
    created: int
    existing: int
    refused: int


def export(
    state: Annotated[
        str,
        typer.Option(
            help="State of the waits: waiting, success, failed, timeout, cancelled or unreadable. "
            "Only waiting ones can be imported.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = "waiting",
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the database of a stopped daemon.")
    ] = False,
    config: Config = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write all waiting waits to standard output, one JSON object a line, to import them into
    another daemon.

    To move waits so that each outcome is delivered once: stop the daemon, export with --offline
    (which reads the database named in the settings), and import into the other daemon. While two
    daemons hold the same wait, both deliver its outcome.

    Waits whose stored row cannot be read follow the waiting ones, with the row as it is stored.
    Once `row` is mended in such a line, the line can be imported.
    """
    if config and not offline:
        fail("--config names the database to read; use it with --offline.", ExitCode.USAGE)
    kinds: Counter[str] = Counter()
    unreadable = 0

    def write(wait: Mapping[str, Any]) -> None:
        nonlocal unreadable
        if wait["state"] == UNREADABLE:
            print_json(wait)
            unreadable += 1
        else:
            print_json(export_line(wait))
            kinds[wait["kind"]] += 1

    if offline:
        from waitd.core.errors import WaitdError
        from waitd.log import configure

        settings = load_settings(config)
        configure(level=settings.log_level, log_format=settings.log_format)  # to standard error
        try:
            asyncio.run(_for_each(stored_waits(settings, state), write))
        except (WaitdError, OSError) as error:
            fail(f"cannot read the database: {error}")
    else:
        call_daemon(url, lambda client: _for_each(daemon_waits(client, state), write))
    console = stderr_console()
    console.print(f"{pluralize(kinds.total(), 'wait')} written. {NOT_EXPORTED}", soft_wrap=True)
    if unreadable:
        console.print(
            f"{pluralize(unreadable, 'unreadable wait')} written as stored: mend `row` in these lines to import them.",
            soft_wrap=True,
        )
    for kind in STATEFUL_KINDS & set(kinds):
        console.print(f"{kinds[kind]:,} of kind {kind} restart their inactivity_period.", soft_wrap=True)


async def _for_each(
    waits: AsyncIterator[Mapping[str, Any]], write: Callable[[Mapping[str, Any]], None]
) -> None:
    async for wait in waits:
        write(wait)


def import_(
    file: Annotated[
        str,
        typer.Argument(help="The output of `waitd export`. - reads standard input.", metavar="FILE|-"),
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit exported waits to a daemon. Deadlines stay the same: each timeout is the time left.

    The import can be repeated: waits that the daemon already has are not changed. With --json it
    prints, one on a line, each wait's old id (`from`) and the daemon's answer.
    """
    lines, unreadable = _readable(file, check_lines(file, read_waits(file)))
    waiting = sorted((line for line in lines if line["state"] == "waiting"), key=lambda line: str(line["id"]))
    ended = len(lines) - len(waiting)
    if ended:
        print_error(
            f"{file} contains {pluralize(ended, 'wait')} that had ended; outcomes cannot be imported."
        )
    if waiting:
        first = waiting[0]["id"]
        if call_daemon(url, lambda client: _has_wait(client, first)):
            fail(
                f"these waits come from the daemon at {url} itself; name another one with --url.",
                ExitCode.USAGE,
            )
    result = submit_lines(url, waiting, as_json=as_json)
    if as_json:
        for line, answer in zip(waiting, result.answers, strict=True):
            print_json({"from": line["id"], **answer})
    else:
        sys.stdout.write(
            f"{pluralize(result.created, 'wait')} imported, {result.existing:,} already there, "
            f"{result.refused:,} refused\n"
        )
    raise typer.Exit(ExitCode.FAILED if result.refused or ended or unreadable else ExitCode.OK)


def _readable(file: str, lines: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], int]:
    """The lines of waits that can be submitted, mended ones included, and how many cannot."""
    readable, unreadable = list[Mapping[str, Any]](), 0
    for n, line in enumerate(lines, 1):
        try:
            readable.append(mended(line) if line["state"] == UNREADABLE else line)
        except ValueError as error:
            unreadable += 1
            print_error(f"{file}: line {n}: the wait {line['id']} is still unreadable: {error}")
    return readable, unreadable


def submit_lines(url: str, lines: Sequence[Mapping[str, Any]], *, as_json: bool) -> ImportResult:
    """Submits the waits of exported lines, and prints refusals on standard error."""
    answers = submit_many(url, lines, as_json=as_json, prepare=lambda line: wait_from_line(line, time.time()))
    # 409: the same wait with another timeout, since less of it is left now
    exists = [answer["status"] in {200, 409} for answer in answers]
    refused = print_refused(
        [{"id": ""} if known else answer for known, answer in zip(exists, answers, strict=True)]
    )
    return ImportResult(answers, len(answers) - sum(exists) - refused, sum(exists), refused)


async def _has_wait(client: "Client", wait_id: str) -> bool:
    from waitd.client import RequestRefused

    try:
        await client.get(wait_id)
    except RequestRefused as error:
        if error.status == 404:
            return False
        raise
    return True


def check_lines(file: str, lines: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Returns the lines. Ends the command if one was not written by `waitd export`."""
    for n, line in enumerate(lines, 1):
        if line.get("state") == UNREADABLE and isinstance(line.get("row"), dict):
            continue
        try:
            datetime.fromisoformat(line["deadline"])
            is_exported = isinstance(line["wait"], dict) and isinstance(line["id"], str) and "state" in line
        except (KeyError, TypeError, ValueError):
            is_exported = False
        if not is_exported:
            fail(f"{file}: line {n} was not written by `waitd export`.", ExitCode.USAGE)
    return lines


def wait_from_line(line: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The body to submit at `now` (Unix seconds) for an exported line."""
    left = datetime.fromisoformat(line["deadline"]).timestamp() - now
    return {**line["wait"], "timeout": max(round(left, 3), MIN_TIMEOUT)}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        help=help_text(export),
        epilog=examples(
            "waitd export > waits.ndjson",
            "waitd export --offline --config config/waitd.toml > waits.ndjson",
            "waitd export --state failed | jq .wait.params",
        ),
    )(export)
    app.command(
        "import",
        help=help_text(import_),
        epilog=examples(
            "waitd import waits.ndjson --url http://127.0.0.1:9000",
            "waitd export | waitd import - --url http://127.0.0.1:9000",
        ),
    )(import_)
