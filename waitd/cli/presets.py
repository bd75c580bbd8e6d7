"""`waitd presets`, `presets show` and `presets check`: job systems described by TOML files."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_error, print_json, stdout_console
from waitd.cli.options import Config, Json, examples, help_text, load_settings
from waitd.core.suggestions import did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from waitd.probes.presets.cases import CaseResult
    from waitd.probes.presets.preset import Preset


def presets(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """List the presets: the job systems that waitd supports by name. Your own presets, in the
    directory named by the setting presets_dir, are listed as well.

    Optional parameters are in brackets.
    """
    if context.invoked_subcommand is not None:
        return
    presets_by_kind = load_presets(config)
    if as_json:
        print_json([summary(preset) for preset in presets_by_kind.values()])
    else:
        console = stdout_console()
        console.print(render_presets(presets_by_kind, console.width))


def show(
    kind: Annotated[str, typer.Argument(help="The preset's kind, e.g. airbyte.job.", metavar="KIND")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a preset: its parameters and an example."""
    known = load_presets(config)
    preset = known.get(kind)
    if preset is None:
        alike = did_you_mean(kind, known)
        fail(f"there is no preset {kind}{alike or '.'} `waitd presets` lists all of them.", ExitCode.USAGE)
    if as_json:
        print_json(summary(preset))
    else:
        from rich.markdown import Markdown

        from waitd.probes.presets.page import section

        stdout_console().print(Markdown(section(preset)))


def check(
    file: Annotated[Path, typer.Argument(help="The TOML file of a preset.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Check a preset's file and run its test cases, against a local server that gives the answers
    they define.

    The exit code is 2 if the file has mistakes, which are listed, and 1 if a test case fails.
    """
    from waitd.log import configure
    from waitd.probes.presets.cases import run_cases, uncovered_states
    from waitd.probes.presets.loading import PresetInvalid, load_preset

    try:
        preset = load_preset(file)
    except PresetInvalid as error:
        if as_json:
            print_json({"valid": False, "mistakes": list(error.lines)})
        fail(str(error), ExitCode.USAGE)
    configure(level="error", log_format="console")  # the cases cause warnings on purpose
    results = asyncio.run(run_cases(preset))
    failed = [result for result in results if result.why]
    missing = [str(state) for state in uncovered_states(preset)]
    if as_json:
        print_json(
            {
                "valid": True,
                "kind": preset.file.kind,
                "cases": [_case(r) for r in results],
                "uncovered": missing,
            }
        )
    else:
        _print_check(preset, results, missing)
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.OK)


def load_presets(config: Path | None) -> Mapping[str, "Preset"]:
    """The presets that a daemon with these settings has, by kind.

    Ends the command if one is invalid.
    """
    from waitd.probes.presets import loading

    settings = load_settings(config)
    try:
        presets_by_kind = loading.load_presets(settings.presets_dir)
    except loading.PresetInvalid as error:
        fail(str(error), ExitCode.USAGE)
    return dict(sorted(presets_by_kind.items()))


def summary(preset: "Preset") -> dict[str, Any]:
    """A preset as `--json` prints it."""
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


def render_presets(presets_by_kind: Mapping[str, "Preset"], width: int) -> "Table":
    """All presets, one a line. Columns that do not fit into `width` are left out or cut."""
    from rich.table import Table
    from rich.text import Text

    from waitd.cli.display.waits import WIDE_TERMINAL

    wide = width >= WIDE_TERMINAL
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in ("KIND", *(["POKE_INTERVAL"] if wide else []), "SUBMIT", "CANCEL"):
        table.add_column(column, no_wrap=True)
    for column in ("TITLE", *(["PARAMS"] if wide else [])):
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1)
    for kind, preset in presets_by_kind.items():
        file = preset.file
        names = [name if param.required else f"[{name}]" for name, param in file.params.items()]
        marks = ["yes" if file.submit else "-", "yes" if file.cancel else "-"]
        cells: list[str | Text] = [*marks, Text(file.title)]
        if wide:
            cells = [f"{file.pace.poke_interval:g} s", *marks, Text(file.title), Text(", ".join(names))]
        table.add_row(Text(kind), *cells)
    return table


def _case(result: "CaseResult") -> dict[str, Any]:
    return {"name": result.case.name, "holds": not result.why, "why": result.why}


def _print_check(preset: "Preset", results: "Sequence[CaseResult]", missing: list[str]) -> None:
    for result in results:
        if result.why:
            print_error(f"{result.case.name}: {result.why}")
    passed = sum(not result.why for result in results)
    console = stdout_console()
    console.print(f"{preset.file.kind}: {passed} of {len(results)} cases pass.", markup=False)
    if missing:
        console.print(f"No case covers the state {', '.join(missing)}.", markup=False)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(rich_markup_mode="rich")
    group.callback(
        invoke_without_command=True,
        help=help_text(presets),
        epilog=examples("waitd presets", "waitd presets --json"),
    )(presets)
    for command, example in (
        (show, "waitd presets show airbyte.job"),
        (check, "waitd presets check acme.toml"),
    ):
        group.command(help=help_text(command), epilog=examples(example))(command)
    app.add_typer(group, name="presets")
