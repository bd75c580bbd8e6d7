"""Progress of `waitd demo` and `waitd bench`: a bar on a terminal, otherwise lines."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

#: Seconds between two progress lines without a terminal.
PLAIN_INTERVAL = 2.0


def progress_display(console: "Console") -> "LiveProgress | PlainProgress":
    """The progress display for a console; see `waitd.bench.progress_display.Show`."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`; SIGTERM and SIGHUP cancel it as Ctrl-C does, so that it can clean up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    return await work


class PlainProgress:
    """Without a terminal: a line for each step, and a progress line every two seconds."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to clean up."""

    def step(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._console.print(text, markup=False)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL
            self._console.print(f"  {done}/{total}: {text}", markup=False)


class LiveProgress:
    """On a terminal: the steps, and a progress bar below them."""

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
        self._print(("✓ ", "bold green"), text)

    def broke(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._print(("✗ ", "bold red"), text)

    def _print(self, mark: tuple[str, str], text: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text.assemble(mark, text))

    def progress(self, done: int, total: int, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        self._bar.update(self._task, total=total, completed=done, description=text)
