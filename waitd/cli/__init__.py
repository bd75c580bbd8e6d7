"""The `waitd` command: one file for each group of commands, and what they share in `common`.

Here are options, tables and exit codes only. What a command does is done by the daemon (`waitd.client` talks to it), by `waitd.app`, or
by `waitd.bench`. Commands import what they need when they run, so that `waitd --help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from waitd.cli import (
    airflow,
    bench,
    config,
    cost,
    demo,
    docs,
    export_import,
    keys,
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
from waitd.cli.common import API_KEY_FILE, CA_FILE, described, examples

app = typer.Typer(
    name="waitd",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from waitd import __build__, __version__

        typer.echo(f"waitd {__version__}" + (f" (build {__build__})" if __build__ else ""))
        raise typer.Exit


def _waitd(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WAITD_CA_FILE", help="Certificates (PEM) to check a daemon's against.", metavar="FILE"
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WAITD_API_KEY_FILE",
            help="A file with the API key that says who calls; default: WAITD_API_KEY.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Waits, so that nothing else has to.

    A daemon that polls HTTP job-status endpoints and S3 keys for you and tells you how each wait ended: durably, at least once, after
    any crash.
    """
    CA_FILE.set(ca_file)
    API_KEY_FILE.set(api_key_file)


app.callback(
    help=described(_waitd),
    epilog=examples("waitd demo", "waitd serve", "waitd until http http://127.0.0.1:8000/health"),
)(_waitd)

serve.register(app)
submit.register(app)
waits.register(app)
cost.register(app)
watch.register(app)
redeliver.register(app)
signal.register(app)
until.register(app)
demo.register(app)
bench.register(app)
airflow.register(app)
export_import.register(app)
keys.register(app)
presets.register(app)
config.register(app)
migrate.register(app)
docs.register(app)


def main() -> None:
    """The console script."""
    app(prog_name="waitd")  # also as `python -m waitd`: completion goes by this name
