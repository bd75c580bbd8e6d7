"""Waits for the outcomes of submitted waits, for `waitd submit --wait` and `waitd watch ID`."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waitd.cli.console import ExitCode, print_json, print_line, stderr_console
from waitd.cli.daemon_calls import call_daemon

if TYPE_CHECKING:
    from waitd.cli.display.outcome_progress import OutcomeProgress
    from waitd.client import Client

#: Seconds between two attempts to reach a daemon that does not answer. It may be restarting.
RECONNECT_SECONDS = 1.0


def wait_for_outcomes(url: str, ids: Sequence[str], *, as_json: bool) -> Sequence[dict[str, Any]]:
    """Waits until every wait has ended, prints the outcomes, and returns the waits in order.

    If the daemon does not answer, the request is repeated.
    """
    from waitd.cli.display.outcome_progress import outcome_progress

    console, ended = stderr_console(), list[dict[str, Any]]()

    async def work(client: "Client") -> None:
        for wait_id in ids:
            ended.append(await _wait_for_outcome(client, wait_id, progress))
            progress.advance()

    with outcome_progress(console, len(ids)) as progress:
        call_daemon(url, work)
    for wait in ended:
        if as_json:
            print_json(wait)
        else:
            outcome = wait.get("outcome") or {"reason": "", "message": wait.get("error", "")}
            fields = [wait["id"], wait["state"], outcome["reason"], outcome["message"]]
            print_line(" · ".join(filter(None, fields)))
    if len(ended) > 1 and not as_json:
        counts = Counter(wait["state"] for wait in ended)
        console.print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    return ended


async def _wait_for_outcome(client: "Client", wait_id: str, progress: "OutcomeProgress") -> dict[str, Any]:
    from waitd.client import DaemonUnreachable, RequestRefused

    long_poll = 0.0
    while True:
        try:
            wait = await client.get(wait_id, long_poll)
        except DaemonUnreachable:
            progress.update(None)
            await asyncio.sleep(RECONNECT_SECONDS)
        except RequestRefused as error:
            if error.status not in {429, 503}:
                raise
            await asyncio.sleep(RECONNECT_SECONDS)
        else:
            if wait["state"] != "waiting":
                return wait
            progress.update(wait)
            long_poll = progress.long_poll


def outcome_exit_code(ended: Sequence[dict[str, Any]]) -> ExitCode:
    """0 if every wait succeeded, 1 if any failed or was cancelled, else 124."""
    states = {wait["state"] for wait in ended}
    if states & {"failed", "cancelled", "unreadable"}:
        return ExitCode.FAILED
    return ExitCode.TIMEOUT if "timeout" in states else ExitCode.OK
