"""How waits look to a person: the table of many, the details of one, and times in words."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from waitd.cli.display.cost import cost_of_wait
from waitd.cli.display.formatting import counted, span, when

STYLES = {
    "waiting": "cyan", "success": "green", "failed": "red", "timeout": "yellow", "cancelled": "dim",
    "pending": "cyan", "failure": "red", "unreachable": "yellow",
    "queued": "cyan", "delivered": "green", "dead": "red",
}  # fmt: skip
#: From this width on, the table of waits also says what they poke, how often they did, and how they are labelled.
WIDE = 120


def word(state: str) -> Text:
    """A state or verdict in its colour."""
    return Text(state, style=STYLES.get(state, ""))


def target_of(wait: Mapping[str, Any]) -> str:
    """What a wait pokes, in a few words: the first of its parameters that names a place."""
    params: Mapping[str, Any] = wait["params"]
    for name in ("endpoint", "bucket_key", "bucket_name", "key"):
        if params.get(name):
            return str(params[name])
    return ", ".join(f"{name}={value}" for name, value in params.items())


def seen_of(wait: Mapping[str, Any]) -> str:
    """What is known of a wait, in a sentence: how it ended, or what its last poke saw."""
    if wait["outcome"]:
        return str(wait["outcome"]["message"] or wait["outcome"]["reason"])
    seen = wait["last_verdict"]
    return str(seen["message"] or seen["reason"]) if seen else "not poked yet"


def standing_of(wait: Mapping[str, Any], now: datetime) -> Text:
    """How a waiting wait stands, as one line that grows no wider than the terminal."""
    seen, on = wait["last_verdict"], wait["waiting_on"] or {}
    due = wait["next_poke_at"] is not None and datetime.fromisoformat(wait["next_poke_at"]) <= now
    following = "next poke due" if due else f"next poke {when(wait['next_poke_at'], now)}"
    following = "poking" if on.get("stage") == "poking" else following
    tail = [counted(wait["pokes"], "poke"), following, f"deadline {when(wait['deadline'], now)}"]
    said = f" {seen['message'] or seen['reason']}"[:60] if seen else ""
    return Text.assemble(
        word(seen["verdict"] if seen else "waiting"),
        " · ".join([said, *tail]),
        no_wrap=True,
        overflow="ellipsis",
    )


def table_of(waits: Sequence[Mapping[str, Any]], width: int) -> Table:
    """Many waits, one on a line; what does not fit into `width` columns is left out or cut."""
    cut = width < 1000  # no terminal is wider: there, lines are as long as they are
    table = Table(box=None, pad_edge=False, header_style="bold", expand=cut)
    table.add_column("ID", no_wrap=True, min_width=36)
    table.add_column("STATE", no_wrap=True)
    table.add_column("WHEN", no_wrap=True)
    wide = width >= WIDE
    if wide:
        table.add_column("POKES", justify="right", no_wrap=True)
        table.add_column("KIND", no_wrap=True)
        table.add_column("TARGET", no_wrap=True, overflow="ellipsis", ratio=3 if cut else None)
    table.add_column("SEEN", no_wrap=True, overflow="ellipsis", ratio=3 if cut else None)
    if wide:
        table.add_column("LABELS", no_wrap=True, overflow="ellipsis", ratio=2 if cut else None)
    for wait in waits:
        at = when(wait["finished_at"] or wait["next_poke_at"])
        cells: list[str | Text] = [wait["id"], word(wait["state"]), at]
        if wide:
            cells += [str(wait["pokes"]), wait["kind"], Text(target_of(wait))]
        cells.append(Text(seen_of(wait)))
        if wide:
            cells.append(Text(" ".join(f"{name}={value}" for name, value in wait["labels"].items())))
        table.add_row(*cells)
    return table


def details_of(wait: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], why: str) -> RenderableType:
    """Everything that a person asks of one wait; `why`: in sentences, why it waits or how it ended."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (("why", Text(why)), *_facts(wait)):
        facts.add_row(name, value)
    parts: list[RenderableType] = [Text.assemble((wait["id"], "bold"), "  ", word(wait["state"])), facts]
    if runs:
        parts += [Text("\nWhat its pokes saw", style="bold"), _runs(runs)]
    if wait["deliveries"]:
        parts += [Text("\nDeliveries", style="bold"), _deliveries(wait["deliveries"])]
    if wait["cost"]:
        parts += [Text("\nWhat it costs", style="bold"), cost_of_wait(wait["cost"])]
    return Group(*parts)


def _facts(wait: Mapping[str, Any]) -> list[tuple[str, Text]]:
    import orjson

    def moment(time: str | None) -> Text:
        return Text(f"{time}  ({when(time)})" if time else "-")

    facts = [
        ("pokes", Text(f"{wait['kind']}  {target_of(wait)}")),
        ("created", moment(wait["created_at"])),
    ]
    if wait["state"] == "waiting":
        facts += [("next poke", moment(wait["next_poke_at"])), ("deadline", moment(wait["deadline"]))]
    else:
        outcome = wait["outcome"] or {}
        facts += [
            ("ended", moment(wait["finished_at"])),
            ("reason", Text(" · ".join(filter(None, [outcome.get("reason"), outcome.get("message")])))),
            ("payload", Text(orjson.dumps(outcome.get("payload")).decode())),
        ]
    pace = f"every {span(wait['poke_interval'])}" + (", backing off" if wait["exponential_backoff"] else "")
    facts.append(
        (
            "pace",
            Text(f"{pace}, for {span(wait['timeout'])} at most; {counted(wait['pokes'], 'poke')} so far"),
        )
    )
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
    """The job that a wait submits itself, in a line."""
    import orjson

    handle = None if submit["handle"] is None else orjson.dumps(submit["handle"]).decode()
    cancel = f"cancel {submit['cancel']['state']}" if submit["cancel"] else None
    told = [submit["state"], handle, counted(submit["attempts"], "call"), cancel, submit["last_error"]]
    return " · ".join(filter(None, told))


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("VERDICT", "SINCE", "LAST"):
        table.add_column(name, no_wrap=True)
    table.add_column("TIMES", justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    for run in runs:
        said = Text(run["reason"]) if not run["message"] else Text(f"{run['reason']}: {run['message']}")
        table.add_row(
            word(run["verdict"]), when(run["first_at"]), when(run["last_at"]), str(run["count"]), said
        )
    return table


def _deliveries(deliveries: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("SINK", "STATE", "TRIED", "NEXT", "SIGNED"):
        table.add_column(name, no_wrap=True)
    table.add_column("LAST ERROR", overflow="fold")
    signed = {True: "yes", False: "no", None: "-"}
    for row in deliveries:
        tried, next_try = str(row["attempts"]), when(row["next_attempt_at"])
        error = Text(row["last_error"] or "")
        table.add_row(row["sink"], word(row["state"]), tried, next_try, signed[row["signed"]], error)
    return table
