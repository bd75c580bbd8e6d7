"""`waitd bench`: a load of waits whose ends are known, on a daemon, measured and held to account."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.bench.profiles import PROFILES, Load, LoadKind
from waitd.cli.common import (
    API_KEY_FILE,
    CA_FILE,
    Code,
    Json,
    api_key,
    described,
    examples,
    fail,
    notes,
    output,
    put_json,
    refusal,
)

if TYPE_CHECKING:
    from waitd.bench.comparators import Comparator
    from waitd.bench.report import BenchReport

EXPLAINED = "; ".join(f"{name}: {profile.says}" for name, profile in PROFILES.items())


def bench(
    waits: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many waits to hold.")] = 1000,
    poke_interval: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two pokes of a wait.", metavar="SECONDS")
    ] = 5.0,
    duration: Annotated[
        float, typer.Option(min=4, help="For how many seconds they are held.", metavar="SECONDS")
    ] = 30.0,
    kind: Annotated[LoadKind, typer.Option(help="What they look at.")] = LoadKind.HTTP,
    profile: Annotated[str, typer.Option(help=EXPLAINED, metavar="|".join(PROFILES))] = "steady",
    daemon: Annotated[
        str | None,
        typer.Option(help="A daemon that runs already; default: one of its own.", metavar="URL"),
    ] = None,
    fleet_processes: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes serve the jobs.")
    ] = 1,
    host: Annotated[
        str,
        typer.Option(help="Where jobs and callbacks are served, for a daemon elsewhere.", metavar="ADDRESS"),
    ] = "127.0.0.1",
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Put the same load on what triggers do, and print ratios.")
    ] = False,
    airflow_python: Annotated[
        Path | None,
        typer.Option(
            help="An interpreter with apache-airflow, to compare with its TriggerRunner; default: this one, if it has it.",
            metavar="PATH",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw lateness, pokes, CPU and memory over time: a .png or .svg.", metavar="FILE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a daemon with waits whose ends are known, measure it, and account for every one.

    Jobs and their keys are served by processes of their own, on cores where nothing is measured. Each wait has a signed callback. Exit
    code 0 only if every wait ended as its job says it must, every callback came, and nothing was lost; figures do not decide it.
    """
    from waitd.bench.children import ChildFailed
    from waitd.bench.fleet import FleetSettings
    from waitd.bench.run import DaemonAddress, run
    from waitd.cli.display.progress import interruptible, shown
    from waitd.client import DaemonUnreachable, RequestRefused

    load = Load(waits, poke_interval, duration, kind, profile)
    _check(load, daemon, plot)
    where = DaemonAddress(daemon, api_key(API_KEY_FILE.get()) if daemon else None, CA_FILE.get())
    compared = comparators(airflow_python) if baseline else []
    try:
        with shown(notes()) as show:
            work = run(show, load, FleetSettings(fleet_processes, host), where, compared)
            report = asyncio.run(interruptible(work))
    except RequestRefused as error:
        fail(refusal(error))
    except DaemonUnreachable as error:
        fail(str(error), Code.UNREACHABLE)
    except ChildFailed as error:
        fail(str(error))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP; everything is cleaned up
        raise typer.Exit(Code.INTERRUPTED) from None
    _tell(report, plot, as_json=as_json)
    raise typer.Exit(Code.OK if report.account.good else Code.FAILED)


def _check(load: Load, daemon: str | None, plot: Path | None) -> None:
    """Ends the command where it could not do what it is asked to: before the work, not after it."""
    if load.profile not in PROFILES:
        fail(f"--profile {load.profile}: one of {', '.join(PROFILES)}.", Code.USAGE)
    if daemon is not None and load.kind is not LoadKind.HTTP:
        fail(
            f"--kind {load.kind.value} needs a daemon that knows where the fleet's keys are: leave out --daemon.",
            Code.USAGE,
        )
    if daemon is not None:
        from waitd.core.connections.connection import parse_origin

        try:
            parse_origin(daemon)
        except ValueError as error:
            fail(f"{daemon} is no URL of a daemon: {error}.", Code.USAGE)
    if plot is not None:
        from waitd.cli.display.plot import check_plot

        check_plot(plot)


def comparators(airflow_python: Path | None) -> "list[Comparator]":
    """What a load is put on for comparison, as far as it is there."""
    import sys
    from importlib.util import find_spec

    from waitd.bench.comparators import TASKS, airflow

    if airflow_python is not None:
        if not airflow_python.is_file():
            fail(f"--airflow-python {airflow_python}: there is no such file.", Code.USAGE)
        return [TASKS, airflow(str(airflow_python))]
    if find_spec("airflow") is not None:
        return [TASKS, airflow(sys.executable)]
    notes().print(
        "There is no apache-airflow here; name an interpreter that has it with --airflow-python to compare with it, too."
    )
    return [TASKS]


def _tell(report: "BenchReport", plot: Path | None, *, as_json: bool) -> None:
    if plot is not None:
        from waitd.cli.display.bench_plot import draw

        draw(plot, report)
    if as_json:
        put_json(report.as_json())
        return
    from waitd.cli.display.bench import comparison, correctness, figures

    out = output()
    if report.comparators:
        out.print(comparison(report))
    out.print(figures(report))
    out.print(correctness(report.account))
    for complaint in report.account.complaints:
        out.print(complaint, style="red", markup=False)
    for warning in report.warnings:
        out.print(warning, style="yellow", markup=False)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(bench),
        epilog=examples(
            "waitd bench",
            "waitd bench --waits 20000 --poke-interval 10 --duration 60 --plot bench.png",
            "waitd bench --profile storm --kind mixed",
            "waitd bench --waits 2000 --baseline --airflow-python ~/airflow/bin/python",
            "waitd bench --daemon https://waitd.internal:8795 --host 10.0.0.7 --json",
        ),
    )(bench)
