"""How a long run is shown: a bar on a terminal, else a line now and then; and how it is interrupted."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

#: Seconds between two lines of progress where there is no terminal.
PLAIN_EVERY = 2.0


def shown(console: "Console") -> "Live | Plain":
    """What shows a run there; see `waitd.bench.progress_display.Show`."""
    return Live(console) if console.is_terminal else Plain(console)


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM and SIGHUP end the work as Ctrl-C does: by cancelling it, so that everything is cleaned up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    return await work


class Plain:
    """A run where there is no terminal: a line for each step, and one of progress every two seconds."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to take down."""

    def step(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._console.print(text, markup=False)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY
            self._console.print(f"  {done}/{total}: {text}", markup=False)


class Live:
    """A run on a terminal: the steps above, a bar of outcomes below."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._say(("✓ ", "bold green"), text)

    def broke(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._say(("✗ ", "bold red"), text)

    def _say(self, mark: tuple[str, str], text: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text.assemble(mark, text))

    def progress(self, done: int, total: int, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._bar.update(self._task, total=total, completed=done, description=text)
