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
from waitd.cli.options import DEFAULT_URL, Config, Json, Url, examples, help_text, load_settings
from waitd.cli.submit import print_refused, read_waits, submit_many

if TYPE_CHECKING:
    from waitd.client import Client
    from waitd.settings import Settings

#: The fields of a wait that are submitted again. The timeout follows from the deadline.
EXPORTED_FIELDS = (
    "kind", "params", "poke_interval", "exponential_backoff", "max_wait", "soft_fail", "silent_fail", "sinks", "labels",
    "supersede_key", "wake_on",
)  # fmt: skip
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
            help="State of the waits: waiting, success, failed, timeout or cancelled. "
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
    """
    if config and not offline:
        fail("--config names the database to read; use it with --offline.", ExitCode.USAGE)
    kinds: Counter[str] = Counter()

    def write(wait: Mapping[str, Any]) -> None:
        print_json(export_line(wait))
        kinds[wait["kind"]] += 1

    if offline:
        from waitd.core.errors import WaitdError

        try:
            asyncio.run(_for_each(_stored_waits(load_settings(config), state), write))
        except (WaitdError, OSError) as error:
            fail(f"cannot read the database: {error}")
    else:
        call_daemon(url, lambda client: _for_each(client.each({"state": state}), write))
    console = stderr_console()
    console.print(f"{pluralize(kinds.total(), 'wait')} written. {NOT_EXPORTED}", soft_wrap=True)
    for kind in STATEFUL_KINDS & set(kinds):
        console.print(f"{kinds[kind]:,} of kind {kind} restart their inactivity_period.", soft_wrap=True)


async def _for_each(
    waits: AsyncIterator[Mapping[str, Any]], write: Callable[[Mapping[str, Any]], None]
) -> None:
    async for wait in waits:
        write(wait)


async def _stored_waits(settings: "Settings", state: str) -> AsyncIterator[Mapping[str, Any]]:
    """The waits in the database of a stopped daemon, newest first, with the exported fields."""
    from waitd.core.waits.event import rfc3339
    from waitd.ports import WaitFilter
    from waitd.stores.database import Database
    from waitd.stores.queries import waits as wait_queries

    database = await Database.open(settings.store_url)
    try:
        before = None
        while True:
            async with database.reading() as connection:
                page = await wait_queries.find(connection, WaitFilter(state=state, before=before, limit=1000))
            for wait in page:
                fields = {name: getattr(wait.spec, name) for name in EXPORTED_FIELDS}
                submission = wait.submission
                yield {
                    **fields,
                    "submit": None
                    if submission is None
                    else {**submission._asdict(), "request": wait.spec.submit},
                    "id": wait.id,
                    "state": wait.state.value,
                    "deadline": rfc3339(wait.deadline),
                }
            if not page:
                return
            before = page[-1].id
    finally:
        await database.close()


def export_line(wait: Mapping[str, Any]) -> dict[str, Any]:
    """The line for a wait, as the API or the database returns it.

    Older daemons lack some fields.
    """
    body = {name: wait[name] for name in EXPORTED_FIELDS if name in wait}
    if wait.get("submit") is not None:
        body["submit"] = _resuming_submit(wait["id"], wait["submit"])
    return {
        "id": wait["id"],
        "state": wait["state"],
        "deadline": wait["deadline"],
        "wait": {**body, "idempotency_key": f"import-{wait['id']}"},
    }


def _resuming_submit(wait_id: str, submit: Mapping[str, Any]) -> dict[str, Any]:
    """The `submit` field with which the other daemon resumes the job where this one stopped.

    It keeps the job's idempotency key, so that no job starts twice.
    """
    resume = {"state": submit["state"], "handle": submit["handle"], "attempts": submit["attempts"]}
    is_unfinished = submit["state"] in {"pending", "submitting", "submitted"}
    return {
        **submit["request"],
        "idempotency_key": submit["request"].get("idempotency_key") or wait_id,
        **({"resume": resume} if is_unfinished else {}),
    }


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
    lines = check_lines(file, read_waits(file))
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
    raise typer.Exit(ExitCode.FAILED if result.refused or ended else ExitCode.OK)


def submit_lines(url: str, lines: Sequence[Mapping[str, Any]], *, as_json: bool) -> ImportResult:
    """Submits the waits of exported lines, and prints refusals on standard error."""
    answers = submit_many(url, lines, as_json=as_json, prepare=lambda line: wait_from_line(line, time.time()))
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
