"""`waitd presets`: the kinds that are data, what they ask for, and whether a file of one's own is right."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    Code,
    Config,
    Json,
    complain,
    described,
    examples,
    fail,
    output,
    put_json,
    settings_from,
)

if TYPE_CHECKING:
    from rich.table import Table

    from waitd.probes.presets.compiling import Preset
    from waitd.probes.presets.golden import Result


def presets(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """List the job systems that waitd knows by name: those that come with it, and those of the setting presets_dir.

    What is required stands without brackets.
    """
    if context.invoked_subcommand is not None:
        return
    known = known_presets(config)
    if as_json:
        put_json([summary(preset) for preset in known.values()])
    else:
        console = output()
        console.print(list_of(known, console.width))


def show(
    kind: Annotated[str, typer.Argument(help="As the list shows it, e.g. airbyte.job.", metavar="KIND")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a preset: its parameters, and an example to begin with."""
    known = known_presets(config)
    if kind not in known:
        fail(f"there is no preset {kind}; `waitd presets` lists them.", Code.USAGE)
    if as_json:
        put_json(summary(known[kind]))
    else:
        from rich.markdown import Markdown

        from waitd.probes.presets.page import section

        output().print(Markdown(section(known[kind])))


def check(
    file: Annotated[Path, typer.Argument(help="A preset's TOML file.", metavar="FILE")], as_json: Json = False
) -> None:
    """Check a preset's file and run its golden cases against a server on this machine that answers as they say.

    Exit code 2 and a line for each mistake where the file is wrong, 1 where a case does not hold.
    """
    from waitd.log import configure
    from waitd.probes.presets.golden import run, uncovered
    from waitd.probes.presets.loading import PresetInvalid, load

    try:
        preset = load(file)
    except PresetInvalid as error:
        if as_json:
            put_json({"valid": False, "mistakes": list(error.lines)})
        fail(str(error), Code.USAGE)
    configure(level="error", log_format="console")  # what a case brings about is no news
    results = asyncio.run(run(preset))
    failed = [result for result in results if result.why]
    missing = [str(state) for state in uncovered(preset)]
    if as_json:
        put_json(
            {
                "valid": True,
                "kind": preset.file.kind,
                "cases": [_case(r) for r in results],
                "uncovered": missing,
            }
        )
    else:
        _print_check(preset, results, missing)
    raise typer.Exit(Code.FAILED if failed else Code.OK)


def known_presets(config: Path | None) -> Mapping[str, "Preset"]:
    """The presets of a daemon with these settings; ends the command where one is wrong."""
    from waitd.probes.presets.loading import PresetInvalid, presets_in

    settings = settings_from(config)
    try:
        found = presets_in(settings.presets_dir)
    except PresetInvalid as error:
        fail(str(error), Code.USAGE)
    return dict(sorted(found.items()))


def summary(preset: "Preset") -> dict[str, Any]:
    """A preset, for programs."""
    from waitd.probes.presets.page import example_wait

    file = preset.file
    schema = preset.params_model.model_json_schema()
    return {
        "kind": file.kind,
        "title": file.title,
        "params": schema["properties"],
        "required": schema.get("required", []),
        "poke_interval": file.pace.poke_interval,
        "min_poke_interval": file.pace.min_poke_interval,
        "submit": file.submit is not None,
        "cancel": file.cancel is not None,
        "tested": file.tested,
        "origin": preset.origin,
        "example": example_wait(preset),
    }


def list_of(known: Mapping[str, "Preset"], width: int) -> "Table":
    """All presets, one on a line; what does not fit into `width` columns is left out or cut."""
    from rich.table import Table
    from rich.text import Text

    from waitd.cli.display.waits import WIDE

    cut = width < 1000  # no terminal is wider: there, lines are as long as they are
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold", expand=cut)
    for column in ("KIND", *(["POKE_INTERVAL"] if wide else []), "SUBMIT", "CANCEL"):
        table.add_column(column, no_wrap=True)
    for column in ("TITLE", *(["PARAMS"] if wide else [])):
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if cut else None)
    for kind, preset in known.items():
        file = preset.file
        names = [name if param.required else f"[{name}]" for name, param in file.params.items()]
        marks = ["yes" if file.submit else "-", "yes" if file.cancel else "-"]
        cells: list[str | Text] = [*marks, Text(file.title)]
        if wide:
            cells = [f"{file.pace.poke_interval:g} s", *marks, Text(file.title), Text(", ".join(names))]
        table.add_row(Text(kind), *cells)
    return table


def _case(result: "Result") -> dict[str, Any]:
    return {"name": result.case.name, "holds": not result.why, "why": result.why}


def _print_check(preset: "Preset", results: "Sequence[Result]", missing: list[str]) -> None:
    for result in results:
        if result.why:
            complain(f"{result.case.name}: {result.why}")
    held = sum(not result.why for result in results)
    console = output()
    console.print(f"{preset.file.kind}: {held} of {len(results)} cases hold.", markup=False)
    if missing:
        console.print(f"No case has the state {', '.join(missing)}.", markup=False)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(rich_markup_mode="rich")
    group.callback(
        invoke_without_command=True,
        help=described(presets),
        epilog=examples("waitd presets", "waitd presets --json"),
    )(presets)
    for command, example in (
        (show, "waitd presets show airbyte.job"),
        (check, "waitd presets check acme.toml"),
    ):
        group.command(help=described(command), epilog=examples(example))(command)
    app.add_typer(group, name="presets")
