"""What people read about presets: one page of all of them, one section each, made from their files."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from waitd.probes.presets.preset import Preset
from waitd.probes.presets.schema import ParamTable, StateTable

_HEAD = """# Job systems by name

<!-- Made from the files in this folder: `python tests/preset_page.py`. -->

A preset makes a job system a kind of its own: `{"kind": "airbyte.job", "params": {"job_id": 42}}` instead of an endpoint and conditions.
Each is one TOML file in this folder, and data only; [what may stand in it](__init__.py), and how to add your own with the setting
`presets_dir`, stands in the package's docstring. `waitd presets` lists them, `waitd presets show KIND` shows one, `waitd presets check
FILE` checks a file and runs its golden cases.

What holds for all of them:

- **A state on no list never ends a wait.** It goes on, `waitd_unknown_states_total{kind}` counts it, and the log tells it once.
- **An answer without a state is no answer**: HTML with 200, broken JSON, another shape are `malformed_answer`, backed off and asked again.
- **A job that is not there** fails its wait after a while (`not_found`; 60 s unless said otherwise), with `silent_fail` not at all.
- 429 and 5xx, and what a vendor says instead of them, are asked again; 401, and what a vendor says instead, makes credentials be
  looked up afresh; any other 4xx fails the wait, with `silent_fail` not.
- Every preset also takes its `…_conn_id`, with Airflow's default name, and `request_timeout`. What Airflow's connection leaves unsaid
  (host, how the credentials are sent) is filled in.
- `submit` makes waitd submit the job itself and wait for it; `cancel_job_on: ["cancelled", "timeout"]` cancels it at these ends.

| Kind | | submit | cancel | Tested against |
|---|---|---|---|---|
"""


def page(presets: Mapping[str, Preset]) -> str:
    """The page of all presets."""
    rows = "".join(_row(preset) for _, preset in sorted(presets.items()))
    sections = "\n".join(section(preset, level=2) for _, preset in sorted(presets.items()))
    return f"{_HEAD}{rows}\n{sections}"


def _row(preset: Preset) -> str:
    file = preset.file
    anchor = file.kind.replace(".", "").lower()
    marks = ("yes" if file.submit else "", "yes" if file.cancel else "")
    cells = (f"[`{file.kind}`](#{anchor})", file.title, *marks, file.tested)
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def section(preset: Preset, level: int = 1) -> str:
    """What there is to say about one preset."""
    return "\n".join(_lines(preset, "#" * level)) + "\n"


def _lines(preset: Preset, mark: str) -> Iterator[str]:
    file = preset.file
    yield from (f"{mark} {file.kind}", "", f"{file.title}. From: {file.docs}.", "")
    if file.notes:
        yield from (file.notes, "")
    yield from ("```json", _pretty(example_wait(preset)), "```", "")
    yield from ("| Parameter | Type | Default | |", "|---|---|---|---|")
    yield _connection_row(preset)
    if file.connection.aws_service is not None:
        yield "| `region_name` | string | the connection's | The region. |"
    for name, table in file.params.items():
        yield _param_row(name, table)
    pace = file.pace
    yield ""
    yield (
        f"Poked every {pace.poke_interval:g} s unless the wait says otherwise, every {pace.min_poke_interval:g} s at most; what is not "
        f"there fails its wait after {pace.not_found_grace:g} s. Tested against {file.tested}."
    )
    yield ""
    yield _states(file.state)
    yield ""
    if file.submit is not None:
        yield from _submit_lines(preset)


def _connection_row(preset: Preset) -> str:
    connection = preset.file.connection
    default = f"`{connection.default}`" if connection.default else "" if connection.optional else "required"
    ways = "signed by AWS's Signature Version 4" if connection.aws_service else connection.auth
    sent = f" Its credentials: {ways}." if ways else ""
    return f"| `{connection.param}` | string | {default} | The connection.{sent} |".replace("|  |", "| |")


def _param_row(name: str, table: ParamTable) -> str:
    default = (
        "required" if table.required else "" if table.default in (None, "") else f"`{_plain(table.default)}`"
    )
    choice = f" One of {', '.join(f'`{each}`' for each in table.enum)}." if table.enum else ""
    return f"| `{name}` | {table.type} | {default} | {table.description}{choice} |".replace("|  |", "| |")


def _states(state: StateTable) -> str:
    lists = {"success": state.success, "failed": state.failure, "goes on": state.running}
    told = [
        f"{word}: {', '.join(f'`{each}`' if each != '' else 'none' for each in each_list)}"
        for word, each_list in lists.items()
        if each_list
    ]
    return "States: " + "; ".join(told) + "."


def _submit_lines(preset: Preset) -> Iterator[str]:
    submit = preset.file.submit
    assert submit is not None  # noqa: S101 - its caller asks
    once = (
        "A repeated call makes no second job."
        if submit.idempotent
        else "A repeated call could make a second job, so a call whose result is not known ends the wait: `submit_unknown`."
    )
    conflict = (
        f" `on_conflict`: {', '.join(f'`{each}`' for each in submit.on_conflict)}, the first by default."
    )
    yield from (f"With `submit`: {once}{conflict}", "", "```json", _pretty(example_submit(preset)), "```", "")
    if submit.params:
        yield from ("| In `submit` | Type | Default | |", "|---|---|---|---|")
        yield from (_param_row(name, table) for name, table in submit.params.items())
        yield ""


def example_wait(preset: Preset) -> dict[str, Any]:
    """A wait to begin with."""
    file = preset.file
    named = {} if file.connection.default else {file.connection.param: "my_connection"}
    return {"kind": file.kind, "params": {**named, **preset.example()}, "timeout": 14400}


def example_submit(preset: Preset) -> dict[str, Any]:
    """A wait that submits its job itself."""
    submit = preset.file.submit
    if submit is None:
        raise ValueError(f"a job of kind {preset.file.kind} cannot be submitted")
    wait = example_wait(preset)
    wait["params"] = {name: value for name, value in wait["params"].items() if name not in submit.handle}
    wait["submit"] = {
        name: table.example for name, table in submit.params.items() if table.example is not None
    }
    if preset.file.cancel is not None:
        wait["submit"]["cancel_job_on"] = ["cancelled", "timeout"]
    return wait


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
