"""`waitd serve`: the daemon itself."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from waitd.cli.common import Config, described, examples, settings_from


def serve(
    config: Config = None,
    bind: Annotated[
        str | None, typer.Option(help="Address and port of the API.", metavar="HOST:PORT")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the database lies.", metavar="DIR")] = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; then it drains and exits 0.

    Every setting is a WAITD_* variable or a line of the settings file; `waitd config check` shows the effective ones.
    """
    settings = settings_from(config, bind=bind, state_dir=state_dir)
    gc.disable()  # nothing that is imported is garbage: looking for it takes a tenth of the start
    from waitd.app import serve as run

    gc.enable()
    raise typer.Exit(run(settings))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(serve),
        epilog=examples(
            "waitd serve",
            "waitd serve --config config/waitd.toml",
            "waitd serve --bind 127.0.0.1:9000 --state-dir /var/lib/waitd",
            "WAITD_CAPACITY=500000 waitd serve",
        ),
    )(serve)
