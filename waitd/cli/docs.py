"""`waitd docs`: the guides in the package."""

from importlib.resources import files
from typing import Annotated

import typer

from waitd.cli.console import ExitCode, fail, print_json, stdout_console
from waitd.cli.options import Json, examples, help_text

#: The name of each guide on the command line, and its directory in the package.
GUIDES = {
    "kinds": "probes",
    "presets": "probes/presets",
    "sinks": "sinks",
    "airflow": "airflow",
    "api": "api",
    "architecture": ".",
}


def read_guide(name: str) -> str:
    """The text of a guide, in Markdown."""
    return files("waitd").joinpath(GUIDES[name], "README.md").read_text("utf-8")


def docs(
    guide: Annotated[
        str | None,
        typer.Argument(help="The name of a guide. Without it, the guides are listed.", metavar="GUIDE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a guide, or list the guides. They match the installed version of waitd."""
    if guide is None:
        titles = {name: read_guide(name).partition("\n")[0].removeprefix("# ") for name in GUIDES}
        if as_json:
            print_json([{"guide": name, "title": title} for name, title in titles.items()])
        else:
            width = max(map(len, titles))
            typer.echo("\n".join(f"{name:{width}}  {title}" for name, title in titles.items()))
    elif guide not in GUIDES:
        fail(f"there is no guide {guide}; the guides are: {', '.join(GUIDES)}.", ExitCode.USAGE)
    elif as_json:
        print_json({"guide": guide, "text": read_guide(guide)})
    else:
        from rich.markdown import Markdown

        stdout_console().print(Markdown(read_guide(guide)))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(docs),
        epilog=examples("waitd docs", "waitd docs kinds", "waitd docs airflow | less -R"),
    )(docs)
