"""`waitd airflow`: what is done with an Airflow as a whole."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Config,
    Json,
    Url,
    complain,
    described,
    examples,
    fail,
    notes,
    put_json,
    settings_from,
)
from waitd.cli.display.formatting import counted
from waitd.cli.export_import import body_of
from waitd.cli.submit import complain_of_refused, submit_many

if TYPE_CHECKING:
    from waitd.core.airflow.callback import TaskTry
    from waitd.settings import Settings
    from waitd.sinks.airflow.parked import ParkedTask


def reconcile(
    conn_id: Annotated[
        str,
        typer.Option(help="The connection that knows Airflow, as in the sinks of the waits.", metavar="ID"),
    ] = "airflow_default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be registered.")] = False,
    as_json: Json = False,
    config: Config = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Register the waits of all tasks that are parked in Airflow again, after the daemon has lost its disk.

    Each parked task left its wait in Airflow. Deadlines do not move: a wait's timeout is what is left of it. It can be repeated, and while
    the daemon works: what is there already stays as it is. What pokes saw before is lost; where an s3_keys_unchanged wait had seen quiet
    for a while, that while begins anew.

    Airflow is asked from here, with the connections that the settings name; the daemon is the one at --url.
    """
    tasks = asyncio.run(_parked(settings_from(config), conn_id))
    lines = [(task.place, line) for task in tasks if (line := _line(task)) is not None]
    unreadable = len(tasks) - len(lines)
    if unreadable:
        complain(f"what {counted(unreadable, 'task')} left in Airflow cannot be read: another version's?")
    if dry_run:
        _show(
            [
                {**_named(place), "kind": line["wait"]["kind"], "deadline": line["deadline"]}
                for place, line in lines
            ],
            as_json=as_json,
        )
        raise typer.Exit(Code.FAILED if unreadable else Code.OK)
    answers = submit_many(
        url, [line for _, line in lines], as_json=as_json, prepared=lambda line: body_of(line, time.time())
    )
    there = [answer["status"] in {200, 409} for answer in answers]
    refused = complain_of_refused(
        [{"id": ""} if known else answer for known, answer in zip(there, answers, strict=True)]
    )
    if as_json:
        for (place, _), answer in zip(lines, answers, strict=True):
            put_json({**_named(place), **answer})
    else:
        created = len(answers) - sum(there) - refused
        sys.stdout.write(
            f"{counted(len(tasks), 'parked task')}: {created:,} registered again, {sum(there):,} there already, {refused:,} refused\n"
        )
    raise typer.Exit(Code.FAILED if refused or unreadable else Code.OK)


async def _parked(settings: "Settings", conn_id: str) -> "Sequence[ParkedTask]":
    """The parked tasks; ends the command where Airflow does not tell."""
    from waitd.app.reconciling import parked_in_airflow
    from waitd.core.errors import WaitdError

    try:
        return await parked_in_airflow(settings, conn_id)
    except (WaitdError, ValueError, OSError) as error:
        fail(f"Airflow cannot be asked over the connection {conn_id}: {error}.")


def _line(task: "ParkedTask") -> Mapping[str, Any] | None:
    """The wait as `waitd import` takes it, too; None where it cannot be read."""
    registration = task.registration
    if registration is None:
        return None
    try:
        datetime.fromisoformat(registration.deadline).timestamp()
    except ValueError:
        return None
    wait = {**registration.wait, "idempotency_key": registration.idempotency_key}
    return {"deadline": registration.deadline, "wait": wait} if "kind" in wait else None


def _named(place: "TaskTry") -> dict[str, Any]:
    return {
        "dag_id": place.dag_id,
        "run_id": place.run_id,
        "task_id": place.task_id,
        "map_index": place.map_index,
    }


def _show(tasks: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    for task in tasks:
        if as_json:
            put_json(task)
        else:
            index = "" if task["map_index"] < 0 else f"[{task['map_index']}]"
            place = f"{task['dag_id']}  {task['run_id']}  {task['task_id']}{index}"
            sys.stdout.write(f"{place}  {task['kind']}, until {task['deadline']}\n")
    notes().print(f"{counted(len(tasks), 'wait')} would be registered.")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    commands = typer.Typer(
        no_args_is_help=True, rich_markup_mode="rich", help="Look after an Airflow's waits."
    )
    commands.command(
        help=described(reconcile),
        epilog=examples(
            "waitd airflow reconcile --conn-id airflow_default --dry-run", "waitd airflow reconcile --json"
        ),
    )(reconcile)
    app.add_typer(commands, name="airflow")
