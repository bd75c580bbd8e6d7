"""Progress of `waitd submit --wait` and `waitd watch ID`."""

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from waitd.cli.display.waits import render_status_line

if TYPE_CHECKING:
    from rich.console import Console

UNREACHABLE = "the daemon does not answer; trying again"


class OutcomeProgress(Protocol):
    """Shows waits that have not ended yet."""

    #: How long each request waits for an outcome, in seconds.
    long_poll: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, wait: dict[str, Any] | None) -> None:
        """Shows a wait as the API returned it. None: the daemon does not answer."""

    def advance(self) -> None:
        """Counts one more wait that has ended."""


def outcome_progress(console: "Console", waits: int) -> OutcomeProgress:
    """The progress display for this many waits."""
    return OneWaitProgress(console) if waits == 1 else ManyWaitsProgress(console, waits)


class ManyWaitsProgress:
    """On a terminal, a bar of the waits that have ended; elsewhere, nothing."""

    long_poll = 30.0

    def __init__(self, console: "Console", total: int) -> None:
        columns = (
            TextColumn("Waiting"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def update(self, wait: dict[str, Any] | None) -> None:
        """See `OutcomeProgress`."""
        verdict = wait["last_verdict"] if wait else None
        text = f"last result: {verdict['message'] or verdict['reason']}" if verdict else ""
        self._bar.update(self._task, description=UNREACHABLE if wait is None else text)

    def advance(self) -> None:
        """See `OutcomeProgress`."""
        self._bar.advance(self._task)


class OneWaitProgress:
    """On a terminal, a status line; elsewhere, a line whenever a poke has a new result."""

    #: Short, so that the progress shown is never older than this.
    long_poll = 2.0

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._wait: dict[str, Any] | None = None
        self._last_line = ""
        self._live: AbstractContextManager[object] = nullcontext()
        if console.is_terminal:
            self._live = Live(
                get_renderable=self._status_line, console=console, transient=True, refresh_per_second=4
            )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def update(self, wait: dict[str, Any] | None) -> None:
        """See `OutcomeProgress`."""
        self._wait = wait
        if self._console.is_terminal:
            return
        verdict = (wait["last_verdict"] if wait else {"verdict": UNREACHABLE}) or {}
        line = " · ".join(filter(None, map(verdict.get, ("verdict", "reason", "message"))))
        if line != self._last_line:
            self._last_line = line
            self._console.print(line, markup=False)

    def advance(self) -> None:
        """Nothing to count."""

    def _status_line(self) -> Text:
        if self._wait is None:
            return Text("asking the daemon", "dim")
        return render_status_line(self._wait, datetime.now(UTC))
