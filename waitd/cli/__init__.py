"""The `waitd` command line, one module for each command or group of commands.

This package has options, output and exit codes only; tables and plots are in `display`. The work is
done by the daemon, which commands call through `waitd.client`, by `waitd.app` or by `waitd.bench`.
Commands import what they need when they run, so that `waitd --help` is fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from waitd.cli import (
    airflow,
    bench,
    check,
    config,
    connections,
    cost,
    demo,
    docs,
    export_import,
    keys,
    limits,
    migrate,
    presets,
    redeliver,
    serve,
    signal,
    submit,
    until,
    waits,
    watch,
)
from waitd.cli.daemon_calls import API_KEY_FILE, CA_FILE
from waitd.cli.options import examples, help_text

app = typer.Typer(
    name="waitd",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from waitd import __build__, __version__

        typer.echo(f"waitd {__version__}" + (f" (build {__build__})" if __build__ else ""))
        raise typer.Exit


def _global_options(
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WAITD_CA_FILE",
            help="CA certificates (PEM file) to verify the daemon's certificate with.",
            metavar="FILE",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WAITD_API_KEY_FILE",
            help="File with the API key for the daemon. (default: the key in WAITD_API_KEY)",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Wait for jobs, files and signals, so that nothing else has to.

    waitd is a daemon. You submit a wait, it polls an HTTP job status, an S3 key or another source
    until the wait ends, and it delivers the outcome: at least once, and also after a crash.
    """
    CA_FILE.set(ca_file)
    API_KEY_FILE.set(api_key_file)


app.callback(
    help=help_text(_global_options),
    epilog=examples("waitd demo", "waitd serve", "waitd until http http://127.0.0.1:8000/health"),
)(_global_options)

serve.register(app)
submit.register(app)
waits.register(app)
cost.register(app)
watch.register(app)
redeliver.register(app)
signal.register(app)
until.register(app)
check.register(app)
demo.register(app)
bench.register(app)
airflow.register(app)
export_import.register(app)
keys.register(app)
presets.register(app)
config.register(app)
connections.register(app)
limits.register(app)
migrate.register(app)
docs.register(app)


def main() -> None:
    """The entry point of the `waitd` command."""
    app(prog_name="waitd")  # shell completion depends on this name, also under `python -m waitd`
