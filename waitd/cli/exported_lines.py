"""The lines of `waitd export`: from a daemon, from a database, and from a row that was mended."""

import base64
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waitd.client import Client
    from waitd.ports import StoredWait
    from waitd.settings import Settings

#: The fields of a wait that are submitted again. The timeout follows from the deadline.
EXPORTED_FIELDS = (
    "kind", "params", "poke_interval", "exponential_backoff", "max_wait", "soft_fail", "silent_fail", "sinks", "labels",
    "supersede_key", "wake_on",
)  # fmt: skip
#: In place of a state: the wait's stored row cannot be read. Its line has the row as it is stored.
UNREADABLE = "unreadable"
#: How many waits one read takes.
PAGE = 1000


async def stored_waits(settings: "Settings", state: str) -> AsyncIterator[Mapping[str, Any]]:
    """The waits in the database of a stopped daemon, newest first, with the exported fields.

    Those that cannot be read come last, as the API shows them.
    """
    from waitd.ports import WaitFilter
    from waitd.stores.opening import open_database
    from waitd.stores.queries import unreadable as unreadable_queries
    from waitd.stores.queries import waits as wait_queries

    database = await open_database(settings.store_url)
    unreadable = database.unreadable
    try:
        before = None
        while state != UNREADABLE:
            filter_ = WaitFilter(state=state, before=before, limit=PAGE)
            async with database.reading() as connection:
                page = await wait_queries.find(connection, filter_, unreadable)
            for wait in page:
                yield exported_fields(wait)
            if not page:
                break
            before = page[-1].id
        if state not in {"waiting", UNREADABLE}:
            return
        after: str | None = ""
        while after is not None:
            async with database.reading() as connection:
                after = await wait_queries.scrub(connection, after, PAGE, unreadable)
        async with database.reading() as connection:
            raw = await unreadable_queries.find(connection, WaitFilter(limit=sys.maxsize), unreadable)
        for found in raw:
            yield {**found._asdict(), "state": UNREADABLE}
    finally:
        await database.close()


async def daemon_waits(client: "Client", state: str) -> AsyncIterator[Mapping[str, Any]]:
    """The waits of a running daemon, newest first; those that cannot be read come last."""
    from waitd.client import RequestRefused

    if state != UNREADABLE:
        async for wait in client.each({"state": state}):
            yield wait
    if state in {"waiting", UNREADABLE}:
        try:
            async for wait in client.each({"state": UNREADABLE}):
                yield wait
        except RequestRefused as error:
            if error.status != 422 or state == UNREADABLE:  # an older daemon does not know the state
                raise


def exported_fields(wait: "StoredWait") -> dict[str, Any]:
    """The fields of a stored wait that an export needs, as the API shows them."""
    from waitd.core.waits.event import rfc3339

    submission = wait.submission
    return {
        **{name: getattr(wait.spec, name) for name in EXPORTED_FIELDS},
        "submit": None if submission is None else {**submission._asdict(), "request": wait.spec.submit},
        "id": wait.id,
        "state": wait.state.value,
        "deadline": rfc3339(wait.deadline),
    }


def mended(line: Mapping[str, Any]) -> dict[str, Any]:
    """The exported line of a wait whose raw row was mended by hand.

    Raises:
        ValueError: it still cannot be read; the message says why.
    """
    from waitd.stores.codec import WaitRow, decode_wait
    from waitd.stores.unreadable import DECODE_ERRORS, describe_error

    row: dict[str, Any] = {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
        for name, value in line["row"].items()
    }
    try:
        return export_line(exported_fields(decode_wait(WaitRow(**row))))
    except DECODE_ERRORS as error:
        raise ValueError(describe_error(error)) from None


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
