"""Renders presets as documentation: one page for all of them, one section for each."""

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

import orjson

from waitd.probes.presets.preset import Preset
from waitd.probes.presets.schema import ParamTable, StateTable

_HEAD = """# Job systems by name

<!-- Generated from the files in data/: `python tests/preset_page.py`. -->

For those who wait for a job of one of these systems. A preset makes a job system a kind of its own:
`{"kind": "airbyte.job", "params": {"job_id": 42}}` replaces an endpoint and conditions. Each preset
is a TOML file in [data](data/), without code. [FORMAT.md](FORMAT.md) describes the files and how to
add your own. `waitd presets` lists the presets, `waitd presets show KIND` shows one, and
`waitd presets check FILE` checks a file and runs its test cases.

The following is true of all presets:

- **An unknown state never ends a wait.** The wait goes on, `waitd_unknown_states_total{kind}`
  counts the state, and it is logged once.
- **An answer without a state decides nothing.** HTML with status 200, broken JSON or an unexpected
  shape is `malformed_answer`, and is retried with backoff.
- **A missing job** fails its wait after a grace period (`not_found`; 300 s unless stated otherwise).
  `not_found_grace` changes the period, and with `silent_fail` the wait goes on.
- 429, 5xx and the vendor's equivalents are retried. After a 401 or the vendor's equivalent,
  credentials are fetched again. Any other 4xx fails the wait, unless it has `silent_fail`.
- Every preset also takes its `…_conn_id`, with Airflow's default name, `not_found_grace` and
  `request_timeout`. What Airflow's connection does not say (the host, how credentials are sent)
  comes from the preset.
- With `submit`, waitd submits the job and waits for it; `cancel_job_on: ["cancelled", "timeout"]`
  cancels the job when the wait ends so.

| Kind | | submit | cancel | Tested against |
|---|---|---|---|---|
"""


def page(presets: Mapping[str, Preset]) -> str:
    """Renders the page of all presets."""
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
    """Renders the section of one preset."""
    return "\n".join(_lines(preset, "#" * level)) + "\n"


def _lines(preset: Preset, mark: str) -> Iterator[str]:
    file = preset.file
    yield from (f"{mark} {file.kind}", "", f"{file.title}. From: {file.docs}.", "")
    if file.notes:
        yield from (_wrap(file.notes), "")
    yield from ("```json", _pretty(example_wait(preset)), "```", "")
    yield from ("| Parameter | Type | Default | |", "|---|---|---|---|")
    yield _connection_row(preset)
    if file.connection.aws_service is not None:
        yield "| `region_name` | string | the connection's | The region. |"
    for name, table in file.params.items():
        yield _param_row(name, table)
    pace = file.pace
    yield ""
    grace = f"A missing job fails its wait after {pace.not_found_grace:g} s. "
    yield _wrap(
        f"Poked every {pace.poke_interval:g} s by default, and at most every {pace.min_poke_interval:g} s. "
        f"{grace if pace.not_found_grace else 'A missing job fails its wait at once. '}"
        f"Tested against {file.tested}."
    )
    yield ""
    yield _wrap(_states(file.state))
    yield ""
    if file.submit is not None:
        yield from _submit_lines(preset)


def _connection_row(preset: Preset) -> str:
    connection = preset.file.connection
    default = f"`{connection.default}`" if connection.default else "" if connection.optional else "required"
    auth = "AWS Signature Version 4" if connection.aws_service else connection.auth
    sent = f" Authentication: {auth}." if auth else ""
    return f"| `{connection.param}` | string | {default} | The connection.{sent} |".replace("|  |", "| |")


def _param_row(name: str, table: ParamTable) -> str:
    default = (
        "required" if table.required else "" if table.default in (None, "") else f"`{_plain(table.default)}`"
    )
    choice = f" One of {', '.join(f'`{each}`' for each in table.enum)}." if table.enum else ""
    return f"| `{name}` | {table.type} | {default} | {table.description}{choice} |".replace("|  |", "| |")


def _states(state: StateTable) -> str:
    lists = {"success": state.success, "failed": state.failure, "running": state.running}
    parts = [
        f"{word}: {', '.join(f'`{each}`' if each != '' else 'none' for each in each_list)}"
        for word, each_list in lists.items()
        if each_list
    ]
    return "States: " + "; ".join(parts) + "."


def _submit_lines(preset: Preset) -> Iterator[str]:
    submit = preset.file.submit
    assert submit is not None  # noqa: S101 - its caller asks
    once = (
        "A repeated call creates no second job."
        if submit.idempotent
        else "A repeated call could create a second job, so a call without an answer ends the wait: `submit_unknown`."
    )
    conflict = (
        f" `on_conflict`: {', '.join(f'`{each}`' for each in submit.on_conflict)}, the first by default."
    )
    yield from (
        _wrap(f"With `submit`: {once}{conflict}"),
        "",
        "```json",
        _pretty(example_submit(preset)),
        "```",
        "",
    )
    if submit.params:
        yield from ("| In `submit` | Type | Default | |", "|---|---|---|---|")
        yield from (_param_row(name, table) for name, table in submit.params.items())
        yield ""


def example_wait(preset: Preset) -> dict[str, Any]:
    """Returns an example of a wait."""
    file = preset.file
    named = {} if file.connection.default else {file.connection.param: "my_connection"}
    return {"kind": file.kind, "params": {**named, **preset.example()}, "timeout": 14400}


def example_submit(preset: Preset) -> dict[str, Any]:
    """Returns an example of a wait that submits its job."""
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


def _wrap(text: str) -> str:
    return fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
