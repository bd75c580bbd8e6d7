"""`waitd demo`: a few hundred waits from submit to callback, with a SIGKILL in between."""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.cli.console import ExitCode, describe_refusal, fail, print_json, stderr_console, stdout_console
from waitd.cli.options import Json, examples, help_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from waitd.bench.correctness import CorrectnessReport


def demo(
    waits: Annotated[
        int, typer.Option(min=20, max=5000, help="The number of waits; ignored with --airflow.")
    ] = 300,
    airflow: Annotated[
        bool,
        typer.Option(
            "--airflow", help="Demonstrate it with a real Airflow, which is installed into a cache."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Demonstrate that nothing is lost: submit waits, kill the daemon half-way with SIGKILL,
    restart it, and check every outcome.

    The demo starts a daemon with a database in a temporary directory, a job server that behaves
    like an unreliable batch API, and a receiver that checks the signature of every callback. All of
    it is removed at the end. The exit code is 0 only if no wait was lost, every outcome matches its
    job, and every event arrived signed and unchanged.

    With --airflow, the same DAG runs with Airflow's own sensor and with waitd's, on a real Airflow
    3.3 with four worker slots and no Triggerer. The demo shows how many slots the waiting tasks
    hold, and kills waitd while they wait. The first time, Airflow is installed below ~/.cache/waitd
    (or XDG_CACHE_HOME), which takes one or two minutes and 1 GB of disk. The demo itself takes four
    minutes.
    """
    import uvloop  # noqa: F401 - only the daemon has it: without, the processes of the demo fail

    if airflow:
        from waitd.cli.demo_airflow import demo_on_airflow

        demo_on_airflow(as_json=as_json)
    from waitd.bench.children import ChildFailed
    from waitd.bench.demo import run
    from waitd.cli.display.progress import interruptible, progress_display
    from waitd.client import DaemonUnreachable, RequestRefused

    console = stderr_console()
    try:
        with progress_display(console) as show:
            report = asyncio.run(interruptible(run(show, waits)))
    except RequestRefused as error:
        fail(describe_refusal(error))
    except (ChildFailed, DaemonUnreachable) as error:
        fail(str(error))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP; everything is cleaned up
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        print_json(report.as_json())
    else:
        out = stdout_console()
        out.print(render_report(report))
        _print_conclusion(out, report)
    raise typer.Exit(ExitCode.OK if report.good else ExitCode.FAILED)


def render_report(report: "CorrectnessReport") -> "Table":
    """The results as a table. Counts that must be zero are red if they are not."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Outcomes", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    for name, value, remark in (
        ("submitted", report.submitted, kinds),
        ("succeeded", report.succeeded, ""),
        ("failed", report.failed, "as their jobs did"),
        ("timed out", report.timed_out, "their jobs never ended"),
        (
            "delivered",
            report.delivered,
            f"{report.refused} callbacks were refused at first and delivered again",
        ),
        (
            "delivered twice",
            report.delivered_twice,
            "delivery is at least once; the event id tells duplicates",
        ),
    ):
        table.add_row(name, str(value), remark)
    table.add_section()
    must_be_zero: Mapping[str, tuple[int, str]] = {
        "lost": (report.lost, "accepted, but no outcome arrived"),
        "wrong outcome": (report.wrong, "not the outcome of its job"),
        "signature wrong": (report.badly_signed, "Standard Webhooks, checked on every callback"),
        "event changed": (report.changed, "not the same bytes each time"),
    }
    for name, (count, remark) in must_be_zero.items():
        table.add_row(name, Text(str(count), style="bold green" if count == 0 else "bold red"), remark)
    return table


def _print_conclusion(console: "Console", report: "CorrectnessReport") -> None:
    for complaint in report.complaints:
        console.print(complaint, style="red", markup=False)
    if not report.good:
        console.print(
            f"Something went wrong (the daemon ended with exit code {report.daemon_exit_code}).",
            style="bold red",
        )
        return
    console.print("\nNothing was lost. Next steps:", style="bold")
    for command, description in _next_steps(program_name()):
        console.print(f"  {command}", style="cyan", markup=False, soft_wrap=True)
        console.print(f"      {description}", style="dim", markup=False)


def _next_steps(waitd: str) -> list[tuple[str, str]]:
    return [
        (f"{waitd} serve", "run a daemon on 127.0.0.1:8795"),
        (
            f"{waitd} until http http://127.0.0.1:8795/readyz --poke-interval 1",
            "wait for one thing, without a daemon",
        ),
        (f"{waitd} submit wait.json --wait", "submit your own wait to the daemon"),
        (f"{waitd} list", "list the daemon's waits; `show ID` explains why one still waits"),
    ]


def program_name() -> str:
    """How this program was called, so that a person can type it again."""
    called = sys.argv[0]
    if called.endswith("__main__.py"):
        return f"{sys.executable} -m waitd"
    name = called.rpartition("/")[2]
    return name if shutil.which(name) == shutil.which(called) else called


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(demo),
        epilog=examples("waitd demo", "waitd demo --waits 1000", "waitd demo --airflow", "waitd demo --json"),
    )(demo)
