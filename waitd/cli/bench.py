"""`waitd bench`: measure a daemon under load, and check every outcome."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waitd.bench.profiles import PROFILES, Load, LoadKind
from waitd.cli.console import (
    ExitCode,
    describe_refusal,
    fail,
    print_error,
    print_json,
    stderr_console,
    stdout_console,
)
from waitd.cli.daemon_calls import API_KEY_FILE, CA_FILE, read_api_key
from waitd.cli.options import Json, examples, help_text, or_global

if TYPE_CHECKING:
    from waitd.bench.comparators import Comparator
    from waitd.bench.report import BenchReport

_PROFILE_HELP = "; ".join(f"{name}: {profile.description}" for name, profile in PROFILES.items())


def bench(
    waits: Annotated[int, typer.Option(min=1, max=1_000_000, help="The number of waits.")] = 1000,
    poke_interval: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two pokes of a wait.", metavar="SECONDS")
    ] = 5.0,
    duration: Annotated[
        float, typer.Option(min=4, help="How long the load lasts, in seconds.", metavar="SECONDS")
    ] = 30.0,
    kind: Annotated[LoadKind, typer.Option(help="What the waits poke.")] = LoadKind.HTTP,
    profile: Annotated[str, typer.Option(help=_PROFILE_HELP, metavar="|".join(PROFILES))] = "steady",
    daemon: Annotated[
        str | None,
        typer.Option(
            help="URL of a running daemon to measure. (default: start one)",
            metavar="URL",
            callback=or_global("url"),
        ),
    ] = None,
    fleet_processes: Annotated[
        int, typer.Option(min=1, max=64, help="The number of processes that serve the jobs.")
    ] = 1,
    host: Annotated[
        str,
        typer.Option(
            help="Address on which jobs and callbacks are served; set it if the daemon is on another host.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline",
            help="Also put the same load on asyncio tasks and on Airflow's triggers, and print the ratios.",
        ),
    ] = False,
    airflow_python: Annotated[
        Path | None,
        typer.Option(
            help="With --baseline: Python interpreter with apache-airflow, whose TriggerRunner is compared. "
            "(default: this interpreter, if apache-airflow is installed)",
            metavar="PATH",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw lateness, pokes, CPU and memory over time, as a .png or .svg file.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a daemon under a load of waits whose outcomes are known, and check every outcome.

    Separate processes serve the jobs, on cores that are not measured. Each wait has a webhook sink,
    whose signature is checked. The exit code is 0 only if every wait has the outcome of its job,
    every webhook arrived, and at least half of the pokes that were due were made.

    A daemon given with --daemon goes on without the waits of the run, also after Ctrl-C: what still
    waits is cancelled. The ended waits stay in its lists until its retention is over, and its audit
    keeps who submitted and cancelled them.
    """
    from waitd.bench.children import ChildFailed
    from waitd.bench.fleet import FleetSettings
    from waitd.bench.run import DaemonAddress, run
    from waitd.cli.display.progress import interruptible, progress_display
    from waitd.client import DaemonUnreachable, RequestRefused

    load = Load(waits, poke_interval, duration, kind, profile)
    _check_arguments(load, daemon, plot)
    where = DaemonAddress(daemon, read_api_key(API_KEY_FILE.get()) if daemon else None, CA_FILE.get())
    compared = comparators(airflow_python) if baseline else []
    try:
        with progress_display(stderr_console()) as show:
            work = run(show, load, FleetSettings(fleet_processes, host), where, compared)
            report = asyncio.run(interruptible(work))
    except RequestRefused as error:
        fail(describe_refusal(error))
    except DaemonUnreachable as error:
        fail(str(error), ExitCode.UNREACHABLE)
    except ChildFailed as error:
        fail(str(error))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP; everything is cleaned up
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _print_report(report, plot, as_json=as_json)
    if not report.load_was_made:
        print_error(
            f"most of the load was not made: {report.measured.requests:,} of {report.pokes_due:,.0f} pokes "
            "that were due. The figures are those of a smaller load: lower --waits, or raise "
            "--poke-interval or --fleet-processes."
        )
    raise typer.Exit(ExitCode.OK if report.good else ExitCode.FAILED)


def _check_arguments(load: Load, daemon: str | None, plot: Path | None) -> None:
    """Ends the command, before it starts anything, if the arguments are invalid."""
    if load.profile not in PROFILES:
        fail(f"--profile {load.profile}: must be one of {', '.join(PROFILES)}.", ExitCode.USAGE)
    if daemon is not None and load.kind is not LoadKind.HTTP:
        fail(
            f"--kind {load.kind.value} needs a daemon that is configured for the bench's S3 server: "
            "leave out --daemon.",
            ExitCode.USAGE,
        )
    if daemon is not None:
        from waitd.core.connections.connection import parse_origin

        try:
            parse_origin(daemon)
        except ValueError as error:
            fail(f"{daemon} is not the URL of a daemon: {error}.", ExitCode.USAGE)
    if plot is not None:
        from waitd.cli.display.plot import check_plot_path

        check_plot_path(plot)


def comparators(airflow_python: Path | None) -> "list[Comparator]":
    """What to compare with: asyncio tasks, and Airflow's triggers if it is installed."""
    import sys
    from importlib.util import find_spec

    from waitd.bench.comparators import TASKS, airflow

    if airflow_python is not None:
        if not airflow_python.is_file():
            fail(f"--airflow-python {airflow_python}: there is no such file.", ExitCode.USAGE)
        return [TASKS, airflow(str(airflow_python))]
    if find_spec("airflow") is not None:
        return [TASKS, airflow(sys.executable)]
    stderr_console().print(
        "apache-airflow is not installed here. To compare with it too, name an interpreter that has it "
        "with --airflow-python."
    )
    return [TASKS]


def _print_report(report: "BenchReport", plot: Path | None, *, as_json: bool) -> None:
    if plot is not None:
        from waitd.cli.display.bench_plot import draw_bench_plot

        draw_bench_plot(plot, report)
    if as_json:
        print_json(report.as_json())
        return
    from waitd.cli.display.bench import render_comparison, render_correctness, render_figures

    out = stdout_console()
    if report.comparators:
        out.print(render_comparison(report))
    out.print(render_figures(report))
    out.print(render_correctness(report.correctness))
    for complaint in report.correctness.complaints:
        out.print(complaint, style="red", markup=False)
    for warning in report.warnings:
        out.print(warning, style="yellow", markup=False)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(bench),
        epilog=examples(
            "waitd bench",
            "waitd bench --waits 20000 --poke-interval 10 --duration 60 --plot bench.png",
            "waitd bench --profile storm --kind mixed",
            "waitd bench --waits 2000 --baseline --airflow-python ~/airflow/bin/python",
            "waitd bench --daemon https://waitd.internal:8795 --host 10.0.0.7 --json",
        ),
    )(bench)
