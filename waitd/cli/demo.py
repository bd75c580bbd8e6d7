"""`waitd demo`: the whole way of a few hundred waits in half a minute, a SIGKILL included. With `--airflow`, see `demo_airflow`."""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.cli.common import Code, Json, described, examples, fail, notes, output, put_json, refusal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from waitd.bench.correctness import CorrectnessReport


def demo(
    waits: Annotated[
        int, typer.Option(min=20, max=5000, help="How many waits to submit, but for --airflow.")
    ] = 300,
    airflow: Annotated[
        bool, typer.Option("--airflow", help="Show it on a real Airflow instead, installed into a cache.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show that nothing is lost: submit waits, kill the daemon half-way with SIGKILL, and account for every one.

    It starts a daemon of its own on a SQLite file in a temporary directory, a job server that behaves like a flaky batch API, and a
    receiver that checks the signature of every callback. Nothing of it stays behind. Exit code 0 only if nothing was lost, every outcome
    is what the job server said, and every event came signed and unchanged.

    With --airflow: the same DAG with Airflow's own sensor and with waitd's, on a real Airflow 3.3 with four worker slots and no Triggerer;
    how many slots the waiting tasks hold, and what becomes of them when waitd is killed meanwhile. Airflow is installed once, below
    ~/.cache/waitd (XDG_CACHE_HOME): a minute or two and 1 GB of disk; then it takes four minutes.
    """
    if airflow:
        from waitd.cli.demo_airflow import demo_on_airflow

        demo_on_airflow(as_json=as_json)
    from waitd.bench.children import ChildFailed
    from waitd.bench.demo import run
    from waitd.cli.display.progress import interruptible, shown
    from waitd.client import DaemonUnreachable, RequestRefused

    console = notes()
    try:
        with shown(console) as show:
            account = asyncio.run(interruptible(run(show, waits)))
    except RequestRefused as error:
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


def table_of(account: "CorrectnessReport") -> "Table":
    """The account for a person: what must be zero stands out where it is not."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What became of them", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    kinds = ", ".join(f"{count} {kind}" for kind, count in account.kinds.items())
    for name, value, remark in (
        ("submitted", account.submitted, kinds),
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


def _verdict(console: "Console", account: "CorrectnessReport") -> None:
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
        help=described(demo),
        epilog=examples("waitd demo", "waitd demo --waits 1000", "waitd demo --airflow", "waitd demo --json"),
    )(demo)
