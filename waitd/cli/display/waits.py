"""Waits as a table, as a status line, and one in detail."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from waitd import exact_json
from waitd.cli.display.cost import render_wait_cost
from waitd.cli.display.formatting import format_duration, format_relative_time, pluralize
from waitd.core.visible_text import visible_json, visible_lines, visible_values

STYLES = {
    "waiting": "cyan", "success": "green", "failed": "red", "timeout": "yellow", "cancelled": "dim",
    "pending": "cyan", "failure": "red", "unreachable": "yellow",
    "queued": "cyan", "delivered": "green", "dead": "red",
}  # fmt: skip
#: From this width on, tables have more columns: pokes, kind, target and labels.
WIDE_TERMINAL = 120


def styled_state(state: str) -> Text:
    """A state or a verdict in its colour."""
    return Text(state, style=STYLES.get(state, ""))


def describe_target(wait: Mapping[str, Any]) -> str:
    """The target of a wait: its URL, key or bucket, or else all its parameters."""
    params: Mapping[str, Any] = wait["params"]
    for name in ("endpoint", "bucket_key", "bucket_name", "key"):
        if params.get(name):
            return str(params[name])
    return ", ".join(f"{name}={value}" for name, value in params.items())


def describe_last_result(wait: Mapping[str, Any]) -> str:
    """The message of a wait's outcome, or of its last poke."""
    if wait["outcome"]:
        return str(wait["outcome"]["message"] or wait["outcome"]["reason"])
    verdict = wait["last_verdict"]
    return str(verdict["message"] or verdict["reason"]) if verdict else "not poked yet"


def render_status_line(wait: Mapping[str, Any], now: datetime) -> Text:
    """The last result and the next poke of a waiting wait, on one line."""
    wait = visible_values(wait)
    verdict, waiting_on = wait["last_verdict"], wait["waiting_on"] or {}
    is_due = wait["next_poke_at"] is not None and datetime.fromisoformat(wait["next_poke_at"]) <= now
    next_poke = "next poke due" if is_due else f"next poke {format_relative_time(wait['next_poke_at'], now)}"
    next_poke = "poking" if waiting_on.get("stage") == "poking" else next_poke
    tail = [
        pluralize(wait["pokes"], "poke"),
        next_poke,
        f"deadline {format_relative_time(wait['deadline'], now)}",
    ]
    message = f" {verdict['message'] or verdict['reason']}"[:60] if verdict else ""
    return Text.assemble(
        styled_state(verdict["verdict"] if verdict else "waiting"),
        " · ".join([message, *tail]),
        no_wrap=True,
        overflow="ellipsis",
    )


def render_table(waits: Sequence[Mapping[str, Any]], width: int) -> Table:
    """Many waits, one a line. Columns that do not fit into `width` are left out or cut."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("ID", no_wrap=True, min_width=36)
    table.add_column("STATE", no_wrap=True)
    table.add_column("WHEN", no_wrap=True)
    wide = width >= WIDE_TERMINAL
    if wide:
        table.add_column("POKES", justify="right", no_wrap=True)
        table.add_column("KIND", no_wrap=True)
        table.add_column("TARGET", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("RESULT", no_wrap=True, overflow="ellipsis", ratio=3)
    if wide:
        table.add_column("LABELS", no_wrap=True, overflow="ellipsis", ratio=2)
    for wait in map(visible_values, waits):
        at = format_relative_time(wait["finished_at"] or wait["next_poke_at"])
        cells: list[str | Text] = [wait["id"], styled_state(wait["state"]), at]
        if wide:
            cells += [str(wait["pokes"]), wait["kind"], Text(describe_target(wait))]
        cells.append(Text(describe_last_result(wait)))
        if wide:
            cells.append(Text(" ".join(f"{name}={value}" for name, value in wait["labels"].items())))
        table.add_row(*cells)
    return table


def render_details(wait: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], why: str) -> RenderableType:
    """One wait in full. `why` explains why it still waits, or how it ended."""
    payload = visible_json(exact_json.dumps((wait["outcome"] or {}).get("payload")).decode())
    wait, runs, why = visible_values(wait), visible_values(runs), visible_lines(why)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (("why", Text(why)), *_facts(wait, payload)):
        facts.add_row(name, value)
    parts: list[RenderableType] = [
        Text.assemble((wait["id"], "bold"), "  ", styled_state(wait["state"])),
        facts,
    ]
    if runs:
        parts += [Text("\nPoke results", style="bold"), _runs(runs)]
    if wait["deliveries"]:
        parts += [Text("\nDeliveries", style="bold"), _deliveries(wait["deliveries"])]
    if wait["cost"]:
        parts += [Text("\nCost", style="bold"), render_wait_cost(wait["cost"])]
    return Group(*parts)


def _facts(wait: Mapping[str, Any], payload: str) -> list[tuple[str, Text]]:
    def moment(time: str | None) -> Text:
        return Text(f"{time}  ({format_relative_time(time)})" if time else "-")

    facts = [
        ("pokes", Text(f"{wait['kind']}  {describe_target(wait)}")),
        ("created", moment(wait["created_at"])),
    ]
    if wait["state"] == "waiting":
        facts += [("next poke", moment(wait["next_poke_at"])), ("deadline", moment(wait["deadline"]))]
    else:
        outcome = wait["outcome"] or {}
        facts += [
            ("ended", moment(wait["finished_at"])),
            ("reason", Text(" · ".join(filter(None, [outcome.get("reason"), outcome.get("message")])))),
            ("payload", Text(payload)),
        ]
    backoff = ", with backoff" if wait["exponential_backoff"] else ""
    pace = f"every {format_duration(wait['poke_interval'])}{backoff}, for at most {format_duration(wait['timeout'])}"
    facts.append(("pace", Text(f"{pace}; {pluralize(wait['pokes'], 'poke')} so far")))
    if wait["labels"]:
        facts.append(("labels", Text(" ".join(f"{name}={value}" for name, value in wait["labels"].items()))))
    if wait["supersede_key"]:
        facts.append(("supersedes", Text(wait["supersede_key"])))
    if wait["wake_on"]:
        facts.append(("wakes on", Text(wait["wake_on"])))
    if wait["submit"]:
        facts.append(("job", Text(_job(wait["submit"]))))
    return facts


def _job(submit: Mapping[str, Any]) -> str:
    """The job that the wait submits, on one line."""
    import orjson

    handle = None if submit["handle"] is None else orjson.dumps(submit["handle"]).decode()
    cancel = f"cancel {submit['cancel']['state']}" if submit["cancel"] else None
    fields = [submit["state"], handle, pluralize(submit["attempts"], "call"), cancel, submit["last_error"]]
    return " · ".join(filter(None, fields))


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("VERDICT", "SINCE", "LAST"):
        table.add_column(name, no_wrap=True)
    table.add_column("TIMES", justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    for run in runs:
        reason = Text(run["reason"]) if not run["message"] else Text(f"{run['reason']}: {run['message']}")
        table.add_row(
            styled_state(run["verdict"]),
            format_relative_time(run["first_at"]),
            format_relative_time(run["last_at"]),
            str(run["count"]),
            reason,
        )
    return table


def _deliveries(deliveries: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("SINK", "STATE", "TRIED", "NEXT", "SIGNED"):
        table.add_column(name, no_wrap=True)
    table.add_column("LAST ERROR", overflow="fold")
    signed = {True: "yes", False: "no", None: "-"}
    for row in deliveries:
        tried, next_try = str(row["attempts"]), format_relative_time(row["next_attempt_at"])
        error = Text(row["last_error"] or "")
        table.add_row(row["sink"], styled_state(row["state"]), tried, next_try, signed[row["signed"]], error)
    return table
