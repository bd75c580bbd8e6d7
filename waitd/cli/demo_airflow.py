"""`waitd demo --airflow`: run `waitd.bench.airflow.demo` and print its results."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from waitd.cli.console import ExitCode, fail, print_json, stderr_console, stdout_console
from waitd.cli.display.progress import progress_display

if TYPE_CHECKING:
    from rich.table import Table

    from waitd.bench.airflow.demo import AirflowDemoReport


def demo_on_airflow(*, as_json: bool) -> NoReturn:
    """Runs the demo, prints its results and ends the command."""
    from waitd.bench.airflow.demo import DAG_FILE, run
    from waitd.bench.airflow.environment import AirflowFailed

    try:
        with _interruptible(), progress_display(stderr_console()) as show:
            report = run(show, _cache_directory())
    except AirflowFailed as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot install or run Airflow here: {error}.")
    except KeyboardInterrupt:  # everything is cleaned up
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        print_json(report.as_json())
    else:
        out = stdout_console()
        out.print(render_airflow_report(report))
        if report.good:
            out.print("Every task continued with the result of its own job.", style="bold green")
        else:
            out.print("Something went wrong.", style="bold red")
        out.print(f"The DAGs are in {DAG_FILE}", style="dim", markup=False, soft_wrap=True)
    raise typer.Exit(ExitCode.OK if report.good else ExitCode.FAILED)


def render_airflow_report(report: "AirflowDemoReport") -> "Table":
    """The results as a table. All figures come from Airflow's own API."""
    from rich.table import Table

    table = Table(title="Results, as Airflow's API shows them", title_justify="left", show_header=False)
    for style in ("", "", "dim"):
        table.add_column(style=style)
    before, after = report.before, report.after
    table.add_row("before: HttpSensor", f"{before.slots_held} slots held", f"by {before.tasks} waiting tasks")
    table.add_row(
        "after: WaitdHttpSensor", f"{after.slots_held} slots held", f"by {after.tasks} waiting tasks"
    )
    table.add_section()
    table.add_row(
        "succeeded",
        f"{report.succeeded} of {after.tasks}",
        f"in {report.tries} tries, although waitd was killed",
    )
    table.add_row("wrong results", str(report.wrong), "each task must have the result of its own job")
    table.add_section()
    for mode in report.modes:
        table.add_row(mode.mode, mode.state, f"parked as {mode.parked_as}, ended in try {mode.try_number}")
    return table


def _cache_directory() -> Path:
    """The directory that Airflow is installed into."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "waitd"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP act like Ctrl-C.

    During the cleanup after one of them, all are ignored.
    """

    def interrupt(*_: Any) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
