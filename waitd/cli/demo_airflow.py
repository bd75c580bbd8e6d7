"""`waitd demo --airflow`: what a person sees of `waitd.bench.airflow.demo`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from waitd.cli.common import Code, fail, notes, output, put_json
from waitd.cli.display.progress import shown

if TYPE_CHECKING:
    from rich.table import Table

    from waitd.bench.airflow.demo import AirflowDemoReport


def demo_on_airflow(*, as_json: bool) -> NoReturn:
    """Runs it and shows what came of it; ends the command."""
    from waitd.bench.airflow.demo import DAG_FILE, run
    from waitd.bench.airflow.environment import AirflowFailed

    try:
        with _interruptible(), shown(notes()) as show:
            account = run(show, _cache())
    except AirflowFailed as error:
        fail(str(error))
    except OSError as error:
        fail(f"Airflow cannot be installed or run here: {error}.")
    except KeyboardInterrupt:  # everything is cleaned up
        raise typer.Exit(Code.INTERRUPTED) from None
    if as_json:
        put_json(account.as_json())
    else:
        out = output()
        out.print(table_of(account))
        if account.good:
            out.print("Every task went on with its own job's result.", style="bold green")
        else:
            out.print("Something went wrong.", style="bold red")
        out.print(f"The DAGs are in {DAG_FILE}", style="dim", markup=False, soft_wrap=True)
    raise typer.Exit(Code.OK if account.good else Code.FAILED)


def table_of(account: "AirflowDemoReport") -> "Table":
    """The account for a person, as Airflow's own API told it."""
    from rich.table import Table

    table = Table(title="What Airflow says", title_justify="left", show_header=False)
    for style in ("", "", "dim"):
        table.add_column(style=style)
    before, after = account.before, account.after
    table.add_row(
        "before: HttpSensor", f"{before.slots_held} slots held", f"by {before.tasks} tasks that waited"
    )
    table.add_row(
        "after: WaitdHttpSensor", f"{after.slots_held} slots held", f"by {after.tasks} tasks that waited"
    )
    table.add_section()
    table.add_row(
        "succeeded",
        f"{account.succeeded} of {after.tasks}",
        f"at {account.tries} tries, over a kill of waitd",
    )
    table.add_row("wrong results", str(account.wrong), "each task has its own job's")
    table.add_section()
    for mode in account.modes:
        table.add_row(mode.mode, mode.state, f"parked as {mode.parked_as}, ended at try {mode.try_number}")
    return table


def _cache() -> Path:
    """Where what was installed is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "waitd"


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does; while it is cleaned up, all three are waited out."""

    def interrupt(*_: Any) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
