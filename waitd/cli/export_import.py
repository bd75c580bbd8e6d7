"""`waitd export` and `waitd import`: waits on their way from one daemon to another, as lines of JSON.

A line is `{"id", "state", "deadline", "wait"}`: the wait as it is submitted, under an idempotency key made from its id, so that an import
can be repeated; and when it must end, because its timeout is what is left until then at the moment of the import.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Config,
    Json,
    Url,
    ask,
    complain,
    described,
    examples,
    fail,
    notes,
    put_json,
    settings_from,
)
from waitd.cli.completion import complete_state
from waitd.cli.display.formatting import counted
from waitd.cli.submit import complain_of_refused, read, submit_many

if TYPE_CHECKING:
    from waitd.client import Client
    from waitd.settings import Settings

#: What of a wait's view is submitted again; its timeout follows from its deadline.
CARRIED = (
    "kind", "params", "poke_interval", "exponential_backoff", "max_wait", "soft_fail", "silent_fail", "sinks", "labels",
    "supersede_key", "wake_on",
)  # fmt: skip
#: The timeout of a wait whose deadline has passed, in seconds: it is looked at once more, as after any downtime.
LEAST_TIMEOUT = 0.001
#: Kinds whose judgement rests on what they saw before.
REMEMBERING = {"s3_keys_unchanged"}
NOT_CARRIED = "Not carried: their ids, what their pokes saw so far, their callers' idempotency keys, and deliveries that are under way."


def export(
    state: Annotated[
        str,
        typer.Option(
            help="waiting, success, failed, timeout or cancelled; only waiting ones can be imported.",
            metavar="STATE",
            autocompletion=complete_state,
        ),
    ] = "waiting",
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the database of a daemon that is stopped.")
    ] = False,
    config: Config = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write waits to standard output, one on a line, to be imported by another daemon: every waiting one.

    To move waits so that each is told of once: stop the daemon, export with --offline (from the database that the settings name), and
    import into the other daemon. While both daemons hold a wait, both tell of it.
    """
    if config and not offline:
        fail("--config names the database to read; it goes with --offline.", Code.USAGE)
    kinds: Counter[str] = Counter()

    def put(wait: Mapping[str, Any]) -> None:
        put_json(line_of(wait))
        kinds[wait["kind"]] += 1

    if offline:
        from waitd.core.errors import WaitdError

        try:
            asyncio.run(_each(_stored(settings_from(config), state), put))
        except (WaitdError, OSError) as error:
            fail(f"the database cannot be read: {error}")
    else:
        ask(url, lambda client: _each(client.each({"state": state}), put))
    console = notes()
    console.print(f"{counted(kinds.total(), 'wait')} written. {NOT_CARRIED}", soft_wrap=True)
    for kind in REMEMBERING & set(kinds):
        console.print(f"{kinds[kind]:,} of kind {kind} begin their inactivity_period anew.", soft_wrap=True)


async def _each(waits: AsyncIterator[Mapping[str, Any]], put: Any) -> None:
    async for wait in waits:
        put(wait)


async def _stored(settings: "Settings", state: str) -> AsyncIterator[Mapping[str, Any]]:
    """The waits of a database that no daemon holds, newest first, as far as they are carried."""
    from waitd.core.waits.event import rfc3339
    from waitd.ports import WaitFilter
    from waitd.stores.database import Database
    from waitd.stores.queries import reading

    database = await Database.open(settings.store_url)
    try:
        before = None
        while True:
            async with database.reading() as link:
                page = await reading.find(link, WaitFilter(state=state, before=before, limit=1000))
            for wait in page:
                spec = {name: getattr(wait.spec, name) for name in CARRIED}
                submission = wait.submission
                yield {
                    **spec,
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


def line_of(wait: Mapping[str, Any]) -> dict[str, Any]:
    """A wait as it is exported."""
    body = {name: wait[name] for name in CARRIED if name in wait}  # an older daemon does not know all of them
    if wait.get("submit") is not None:
        body["submit"] = _resumed(wait["id"], wait["submit"])
    return {
        "id": wait["id"],
        "state": wait["state"],
        "deadline": wait["deadline"],
        "wait": {**body, "idempotency_key": f"import-{wait['id']}"},
    }


def _resumed(wait_id: str, submit: Mapping[str, Any]) -> dict[str, Any]:
    """What is submitted of a wait's own `submit`: the other daemon goes on where this one was, under the same idempotency key."""
    resume = {"state": submit["state"], "handle": submit["handle"], "attempts": submit["attempts"]}
    going_on = submit["state"] in {"pending", "submitting", "submitted"}
    return {
        **submit["request"],
        "idempotency_key": submit["request"].get("idempotency_key") or wait_id,
        **({"resume": resume} if going_on else {}),
    }


def import_(
    file: Annotated[
        str, typer.Argument(help="What `waitd export` wrote; - is standard input.", metavar="FILE|-")
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit the waits of an export to a daemon. Deadlines do not move: a wait's timeout is what is left of it.

    It can be repeated: what is there already stays as it is. With --json it prints the id that each wait had (`from`) and the daemon's
    answer, one on a line.
    """
    lines = checked(file, read(file))
    waiting = sorted((line for line in lines if line["state"] == "waiting"), key=lambda line: str(line["id"]))
    ended = len(lines) - len(waiting)
    if ended:
        complain(f"{counted(ended, 'wait')} of {file} had ended; an outcome cannot be moved.")
    if waiting:
        first = waiting[0]["id"]
        held = ask(url, lambda client: _holds(client, first))
        if held:
            fail(f"the daemon at {url} holds these waits itself; name another with --url.", Code.USAGE)
    answers = submit_many(url, waiting, as_json=as_json, prepared=lambda line: body_of(line, time.time()))
    there = [answer["status"] in {200, 409} for answer in answers]
    refused = complain_of_refused(
        [{"id": ""} if known else answer for known, answer in zip(there, answers, strict=True)]
    )
    if as_json:
        for line, answer in zip(waiting, answers, strict=True):
            put_json({"from": line["id"], **answer})
    else:
        created = len(answers) - sum(there) - refused
        sys.stdout.write(
            f"{counted(created, 'wait')} imported, {sum(there):,} there already, {refused:,} refused\n"
        )
    raise typer.Exit(Code.FAILED if refused or ended else Code.OK)


async def _holds(client: "Client", wait_id: str) -> bool:
    from waitd.client import RequestRefused

    try:
        await client.get(wait_id)
    except RequestRefused as error:
        if error.status == 404:
            return False
        raise
    return True


def checked(file: str, lines: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The lines of an export; ends the command where one is none."""
    for n, line in enumerate(lines, 1):
        try:
            datetime.fromisoformat(line["deadline"])
            usable = isinstance(line["wait"], dict) and isinstance(line["id"], str) and "state" in line
        except (KeyError, TypeError, ValueError):
            usable = False
        if not usable:
            fail(f"{file}: line {n} is none that `waitd export` writes.", Code.USAGE)
    return lines


def body_of(line: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What is submitted of an exported line at `now`, Unix seconds."""
    left = datetime.fromisoformat(line["deadline"]).timestamp() - now
    return {**line["wait"], "timeout": max(round(left, 3), LEAST_TIMEOUT)}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        help=described(export),
        epilog=examples(
            "waitd export > waits.ndjson",
            "waitd export --offline --config config/waitd.toml > waits.ndjson",
            "waitd export --state failed | jq .wait.params",
        ),
    )(export)
    app.command(
        "import",
        help=described(import_),
        epilog=examples(
            "waitd import waits.ndjson --url http://127.0.0.1:9000",
            "waitd export | waitd import - --url http://127.0.0.1:9000",
        ),
    )(import_)
