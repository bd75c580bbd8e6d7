"""`waitd demo`: the whole way of a few hundred waits in half a minute, a SIGKILL included."""

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

import typer

from waitd.cli.common import Code, Json, described, examples, fail, notes, output, put_json, refusal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from waitd.bench.account import Account
    from waitd.bench.demo import Progress, Show

#: Seconds between two lines of progress where there is no terminal.
PLAIN_EVERY = 2.0


def demo(
    waits: Annotated[int, typer.Option(min=20, max=5000, help="How many waits to submit.")] = 300,
    as_json: Json = False,
) -> None:
    """Show that nothing is lost: submit waits, kill the daemon half-way with SIGKILL, and account for every one.

    It starts a daemon of its own on a SQLite file in a temporary directory, a job server that behaves like a flaky batch API, and a
    receiver that checks the signature of every callback. Nothing of it stays behind. Exit code 0 only if nothing was lost, every outcome
    is what the job server said, and every event came signed and unchanged.
    """
    from waitd.bench.children import ChildFailed
    from waitd.client import DaemonUnreachable, Refused

    console = notes()
    try:
        with Live(console) if console.is_terminal else Plain(console) as show:
            account = asyncio.run(_interruptible(show, waits))
    except Refused as error:
        fail(refusal(error))
    except (ChildFailed, DaemonUnreachable) as error:
        fail(str(error))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP; everything is cleaned up
        raise typer.Exit(Code.INTERRUPTED) from None
    if as_json:
        put_json(account.as_json())
    else:
        out = output()
        out.print(table_of(account))
        _verdict(out, account)
    raise typer.Exit(Code.OK if account.good else Code.FAILED)


async def _interruptible(show: "Show", waits: int) -> "Account":
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: by cancelling it, so that everything is cleaned up."""
    from waitd.bench.demo import run

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    return await run(show, waits)


class Plain:
    """The demo where there is no terminal: a line for each step, and one of progress every two seconds."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to take down."""

    def step(self, text: str) -> None:
        """See `waitd.bench.demo.Show`."""
        self._console.print(text, markup=False)

    broke = step

    def progress(self, now: "Progress") -> None:
        """See `waitd.bench.demo.Show`."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY
            self._console.print(
                f"  {sum(now.states.values())}/{now.submitted} outcomes: {_counts(now)}", markup=False
            )


class Live:
    """The demo on a terminal: the steps above, a bar of outcomes below."""

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
        """See `waitd.bench.demo.Show`."""
        self._say(("✓ ", "bold green"), text)

    def broke(self, text: str) -> None:
        """See `waitd.bench.demo.Show`."""
        self._say(("✗ ", "bold red"), text)

    def _say(self, mark: tuple[str, str], text: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text.assemble(mark, text))

    def progress(self, now: "Progress") -> None:
        """See `waitd.bench.demo.Show`."""
        self._bar.update(
            self._task, total=now.submitted, completed=sum(now.states.values()), description=_counts(now)
        )


def _counts(now: "Progress") -> str:
    words = {"success": "succeeded", "failed": "failed", "timeout": "timed out"}
    parts = [f"{now.states.get(state, 0)} {said}" for state, said in words.items()]
    return ", ".join([*parts, f"{now.refused} tried again"])


def table_of(account: "Account") -> "Table":
    """The account for a person: what must be zero stands out where it is not."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What became of them", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, value, remark in (
        ("submitted", account.submitted, ""),
        ("succeeded", account.succeeded, ""),
        ("failed", account.failed, "their job said so"),
        ("timed out", account.timed_out, "their job never ended"),
        ("delivered", account.delivered, f"{account.refused} callbacks were refused first and came again"),
        ("delivered twice", account.delivered_twice, "at least once is the promise; ids tell"),
    ):
        table.add_row(name, str(value), remark)
    table.add_section()
    must_be_zero: Mapping[str, tuple[int, str]] = {
        "lost": (account.lost, "accepted, and no outcome ever came"),
        "wrong outcome": (account.wrong, "not what the job server said"),
        "signature wrong": (account.badly_signed, "Standard Webhooks, checked on every callback"),
        "event changed": (account.changed, "not the same bytes each time"),
    }
    for name, (count, remark) in must_be_zero.items():
        table.add_row(name, Text(str(count), style="bold green" if count == 0 else "bold red"), remark)
    return table


def _verdict(console: "Console", account: "Account") -> None:
    for complaint in account.complaints:
        console.print(complaint, style="red", markup=False)
    if not account.good:
        console.print(
            f"Something went wrong (the daemon ended with exit code {account.daemon_exit_code}).",
            style="bold red",
        )
        return
    me = program()
    console.print("\nNothing was lost. What to try next:", style="bold")
    for command, what in _next_steps(me):
        console.print(f"  {command}", style="cyan", markup=False, soft_wrap=True)
        console.print(f"      {what}", style="dim", markup=False)


def _next_steps(me: str) -> list[tuple[str, str]]:
    return [
        (f"{me} serve", "a daemon of your own, on 127.0.0.1:8795"),
        (
            f"{me} until http http://127.0.0.1:8795/readyz --poke-interval 1",
            "one wait, no daemon needed",
        ),
        (f"{me} submit wait.json --wait", "a wait of yours; `submit --help` shows one"),
        (f"{me} list", "what the daemon holds; `show ID` says why a wait still waits"),
    ]


def program() -> str:
    """How this program was called, as a person would type it again."""
    called = sys.argv[0]
    if called.endswith("__main__.py"):
        return f"{sys.executable} -m waitd"
    name = called.rpartition("/")[2]
    return name if shutil.which(name) == shutil.which(called) else called


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(demo), epilog=examples("waitd demo", "waitd demo --waits 1000", "waitd demo --json")
    )(demo)
