"""waitd that kills itself when it reaches the point CRASH_AT for the CRASH_AFTER-th time.

The points wrap functions of the product from outside; the product has no code for them.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from waitd.cli import main
from waitd.probes.http.jobs import HttpJobs
from waitd.sinks.webhook import WebhookSink
from waitd.stores import Store, writer
from waitd.stores.operations import finish, insert
from waitd.stores.sqlite import connection_thread
from waitd.stores.writer import Writer

point = os.environ.get("CRASH_AT", "")
left = [int(os.environ.get("CRASH_AFTER", "1"))]


def count_down() -> None:
    """Kills the process at the last of the CRASH_AFTER calls."""
    left[0] -= 1
    if left[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, *, only_if: Callable[..., bool] = lambda *_: True) -> None:
    """Counts down before each call of `owner.name` for whose arguments `only_if` is true."""
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if only_if(*args):
            count_down()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def before_commit_of(operation: Callable[..., Any]) -> None:
    """Counts down before the COMMIT of a transaction with commands for `operation`."""
    run = connection_thread.execute
    armed = [False]

    async def arm(transaction: Any, commands: Any) -> None:
        await operation(transaction, commands)
        armed[0] = True

    def execute(driver: Any, calls: Any, torn_tables: Any) -> Any:
        *statements, last = calls
        if armed[0] and last[0] == "COMMIT":
            armed[0] = False
            run(driver, statements, torn_tables)
            count_down()
            return run(driver, [last], torn_tables)
        return run(driver, calls, torn_tables)

    writer._ORDER = tuple((kind, arm if each is operation else each) for kind, each in writer._ORDER)
    connection_thread.execute = execute  # type: ignore[assignment]  # the point of the crash


POINTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "before the commit of a submit": lambda: before_commit_of(insert.insert),
    "after the commit and before the hand-over": lambda: before(
        Writer, "_notify", only_if=lambda _, transaction: bool(transaction.inserted)
    ),
    "before the terminal commit": lambda: before_commit_of(finish.finish),
    "after the terminal commit and before the send": lambda: before(WebhookSink, "deliver"),
    "after the send and before it is saved": lambda: before(Store, "save_attempt"),
    "after the mark and before the submitting call": lambda: before(HttpJobs, "submit"),
    "after the submitting call and before the handle is stored": lambda: before(
        Store, "save_submission", only_if=lambda _, wait_id, submission: submission.handle is not None
    ),
    "before the job is cancelled": lambda: before(HttpJobs, "cancel"),
    "after the job is cancelled and before it is stored": lambda: before(Store, "save_job_cancel"),
}

if __name__ == "__main__":
    POINTS[point]()
    sys.argv = ["waitd", "serve"]
    main()
