"""A poke that sends its request without a task, and continues in a task only when it must.

A task and its switches cost as much as the request itself, and nearly every answer can be handled
where it arrives.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from waitd.core.connections.proxies import note_proxy
from waitd.core.waits.verdict import Verdict
from waitd.ports import OnVerdicts, run_in_task
from waitd.probes.transport.connection import Http1Connection


class TasklessPoke:
    """What such pokes share: how they continue in a task, and how they are cancelled.

    A subclass's `start` sets `_on_verdicts`, and `_connection` if it sends its request without a
    task. Its handler of the response calls `_on_verdicts` or `_finish_in_task`.
    """

    __slots__ = ("_connection", "_on_verdicts", "_task")

    _connection: Http1Connection | None
    _on_verdicts: OnVerdicts
    _task: asyncio.Task[Sequence[Verdict]] | None

    def cancel(self) -> None:
        """Cancels the request or the task."""
        if self._connection is not None:
            self._connection.cancel()
            cancelled = asyncio.CancelledError()
            note_proxy(cancelled, self._connection.proxy)
            self._on_verdicts(cancelled)
        elif self._task is not None:
            self._task.cancel()

    def _finish_in_task(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> None:
        """Continues in a task; the connection may serve another request by now."""
        self._connection = None
        self._task = run_in_task(rest, self._on_end)

    def _on_end(self, result: Sequence[Verdict] | BaseException) -> None:
        """Passes on what the task returned.

        A cancelled task keeps its exception, whose traceback holds this object: a reference cycle.
        """
        self._task = None
        self._on_verdicts(result)
