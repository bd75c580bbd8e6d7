"""`waitd serve`: run the daemon."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from waitd.cli.options import Config, examples, help_text, load_settings


def serve(
    config: Config = None,
    bind: Annotated[
        str | None,
        typer.Option(help="Address and port of the API. (default: 127.0.0.1:8795)", metavar="HOST:PORT"),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of the SQLite database. (default: ~/.local/state/waitd)", metavar="DIR"),
    ] = None,
    adopt_copy: Annotated[
        bool,
        typer.Option(
            "--adopt-copy",
            help="Use a database that is a copy and whose original still exists. Both deliver every outcome.",
        ),
    ] = False,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. It then finishes work in progress and exits with 0.

    Every setting can be given as a WAITD_* environment variable or in the settings file. `waitd
    config check` prints the effective settings.
    """
    settings = load_settings(config, bind=bind, state_dir=state_dir)
    gc.disable()  # importing creates no garbage; collecting would take a tenth of the start time
    from waitd.app import serve as run

    gc.enable()
    raise typer.Exit(run(settings, adopt_copy=adopt_copy))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(serve),
        epilog=examples(
            "waitd serve",
            "waitd serve --config config/waitd.toml",
            "waitd serve --bind 127.0.0.1:9000 --state-dir /var/lib/waitd",
            "WAITD_CAPACITY=500000 waitd serve",
        ),
    )(serve)
