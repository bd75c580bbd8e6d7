"""The `waitd` command line, one module for each command or group of commands.

This package has options, output and exit codes only; tables and plots are in `display`. The work is
done by the daemon, which commands call through `waitd.client`, by `waitd.app` or by `waitd.bench`.
Commands import what they need when they run, so that `waitd --help` is fast.
"""

import inspect
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
from waitd.cli.daemon_calls import use_api_key_file, use_ca_file
from waitd.cli.options import ApiKeyFile, CaFile, examples, help_text, with_client_options

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
    url: Annotated[  # noqa: ARG001 - commands take it from the context
        str | None, typer.Option("--url", help="URL of the daemon, as after a command.", metavar="URL")
    ] = None,
    as_json: Annotated[  # noqa: ARG001 - commands take it from the context
        bool, typer.Option("--json", help="Print JSON instead of text, as after a command.")
    ] = False,
    ca_file: CaFile = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Wait for jobs, files and signals, so that nothing else has to.

    waitd is a daemon. You submit a wait, it polls an HTTP job status, an S3 key or another source
    until the wait ends, and it delivers the outcome: at least once, and also after a crash.
    """
    use_ca_file(ca_file)
    use_api_key_file(api_key_file)


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


def _take_client_options(group: typer.Typer) -> None:
    """Gives the commands that call a daemon the options of its client."""
    for command in group.registered_commands:
        if command.callback and {"url", "daemon"} & set(inspect.signature(command.callback).parameters):
            command.callback = with_client_options(command.callback)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _take_client_options(inner.typer_instance)


_take_client_options(app)


def main() -> None:
    """The entry point of the `waitd` command."""
    app(prog_name="waitd")  # shell completion depends on this name, also under `python -m waitd`
