"""What `waitd until` prints while it waits, and when the wait has ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.text import Text

from waitd.cli.display.formatting import format_duration
from waitd.cli.display.waits import styled_state
from waitd.core.visible_text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.cli.until_loop import StandaloneWait
    from waitd.core.waits.step import Finish


class UntilDisplay:
    """A status line on a terminal; elsewhere, a line whenever a poke has a new result."""

    def __init__(self, console: "Console", wait: "StandaloneWait", now: Callable[[], float]) -> None:
        self._console = console
        self._wait = wait
        self._last: tuple[str, str, str] | None = None
        self._live: AbstractContextManager[object] = nullcontext()
        if console.is_terminal:
            self._live = Live(
                get_renderable=lambda: render_progress(wait, now()),
                console=console,
                transient=True,
                refresh_per_second=4,
            )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def refresh(self) -> None:
        """Called after each poke."""
        if self._console.is_terminal:
            return
        run = self._wait.progress.runs[-1]
        result = run.verdict, run.reason, run.message
        if result != self._last:
            self._last = result
            self._console.print(visible(" · ".join(filter(None, result))), markup=False)


def render_progress(wait: "StandaloneWait", now: float) -> Text:
    """The last result and the next poke, on one line that is cut at the terminal's width."""
    left = f"{format_duration(wait.deadline - now)} left"
    next_poke = f"next poke in {format_duration(wait.due - now)}" if wait.due is not None else "poking"
    if not wait.progress.runs:
        return Text(f"{next_poke} · {left}", no_wrap=True, overflow="ellipsis")
    run = wait.progress.runs[-1]
    since = f"for {format_duration(now - run.first_at)}"
    return Text.assemble(
        styled_state(run.verdict),
        visible(f" {run.message or run.reason}")[:60],
        f" · {since} · {wait.progress.pokes} pokes · {next_poke} · {left}",
        no_wrap=True,
        overflow="ellipsis",
    )


def print_outcome(console: "Console", finish: "Finish") -> None:
    """Prints how the wait ended; unless it succeeded, also the results of its pokes."""
    outcome, pokes, runs = finish.outcome, finish.progress.pokes, finish.progress.runs
    after = f" after {pokes} pokes" if pokes != 1 else " at the first poke"
    detail = outcome.message or (outcome.reason if outcome.reason != outcome.state.value else "")
    console.print(
        Text.assemble(styled_state(outcome.state.value), after, f": {visible(detail)}" if detail else ""),
        soft_wrap=True,
    )
    if outcome.state.value != "success" and len(runs) > 1:
        for run in runs:
            count = "once" if run.times == 1 else f"{run.times} times"
            console.print(f"  {count} {run.verdict} · {run.reason}", style="dim", markup=False)
