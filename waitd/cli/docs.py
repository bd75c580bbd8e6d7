"""`waitd docs`: the guides that come with the package."""

from importlib.resources import files
from typing import Annotated

import typer

from waitd.cli.common import Code, Json, described, examples, fail, output, put_json

#: Each guide's name on the command line, and its folder in the package.
GUIDES = {
    "kinds": "probes",
    "presets": "probes/presets",
    "sinks": "sinks",
    "airflow": "airflow",
    "api": "api",
    "architecture": ".",
}


def read(name: str) -> str:
    """The text of a guide, in Markdown."""
    return files("waitd").joinpath(GUIDES[name], "README.md").read_text("utf-8")


def docs(
    guide: Annotated[
        str | None, typer.Argument(help="A guide's name, as the list shows it.", metavar="GUIDE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a guide, or list the guides that come with this waitd."""
    if guide is None:
        titles = {name: read(name).partition("\n")[0].removeprefix("# ") for name in GUIDES}
        if as_json:
            put_json([{"guide": name, "title": title} for name, title in titles.items()])
        else:
            width = max(map(len, titles))
            typer.echo("\n".join(f"{name:{width}}  {title}" for name, title in titles.items()))
    elif guide not in GUIDES:
        fail(f"there is no guide {guide}; the guides are: {', '.join(GUIDES)}.", Code.USAGE)
    elif as_json:
        put_json({"guide": guide, "text": read(guide)})
    else:
        from rich.markdown import Markdown

        output().print(Markdown(read(guide)))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(docs),
        epilog=examples("waitd docs", "waitd docs kinds", "waitd docs airflow | less -R"),
    )(docs)
