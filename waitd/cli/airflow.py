"""`waitd airflow reconcile`: register parked tasks' waits again after a lost database."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_error, print_json, print_line, stderr_console
from waitd.cli.display.formatting import pluralize
from waitd.cli.export_import import submit_lines
from waitd.cli.options import DEFAULT_URL, Config, Json, Url, examples, help_text, load_settings

if TYPE_CHECKING:
    from waitd.core.airflow.callback import TaskTry
    from waitd.settings import Settings
    from waitd.sinks.airflow.parked import ParkedTask


def reconcile(
    conn_id: Annotated[
        str,
        typer.Option(help="The connection to Airflow, as named in the waits' sinks.", metavar="ID"),
    ] = "airflow_default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the waits that would be registered.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Register the waits of all tasks parked in Airflow again, after the daemon has lost its
    database.

    Each parked task keeps a copy of its wait in Airflow. Deadlines stay the same: each timeout is
    the time left. The command can be repeated, also while the daemon runs: waits that the daemon
    already has are not changed. The results of earlier pokes are lost; an s3_keys_unchanged wait
    restarts its inactivity_period.

    This command itself calls Airflow, with the connections named in the settings. The daemon is the
    one at --url.
    """
    tasks = asyncio.run(_parked_tasks(load_settings(config), conn_id))
    lines = [(task.task_try, line) for task in tasks if (line := _import_line(task)) is not None]
    unreadable = len(tasks) - len(lines)
    if unreadable:
        print_error(
            f"cannot read the wait of {pluralize(unreadable, 'parked task')}; "
            "it may have been written by another version of waitd."
        )
    if dry_run:
        _print_tasks(
            [
                {**_task_fields(task), "kind": line["wait"]["kind"], "deadline": line["deadline"]}
                for task, line in lines
            ],
            as_json=as_json,
        )
        raise typer.Exit(ExitCode.FAILED if unreadable else ExitCode.OK)
    result = submit_lines(url, [line for _, line in lines], as_json=as_json)
    if as_json:
        for (task, _), answer in zip(lines, result.answers, strict=True):
            print_json({**_task_fields(task), **answer})
    else:
        sys.stdout.write(
            f"{pluralize(len(tasks), 'parked task')}: {result.created:,} registered again, "
            f"{result.existing:,} already there, {result.refused:,} refused\n"
        )
    raise typer.Exit(ExitCode.FAILED if result.refused or unreadable else ExitCode.OK)


async def _parked_tasks(settings: "Settings", conn_id: str) -> "Sequence[ParkedTask]":
    """The parked tasks. Ends the command if Airflow does not return them."""
    from waitd.app.adapters import parked_in_airflow
    from waitd.core.errors import WaitdError

    try:
        return await parked_in_airflow(settings, conn_id)
    except (WaitdError, ValueError, OSError) as error:
        fail(f"cannot list Airflow's parked tasks with the connection {conn_id}: {error}.")


def _import_line(task: "ParkedTask") -> Mapping[str, Any] | None:
    """The task's wait as a line of `waitd import`, or None if it cannot be read."""
    registration = task.registration
    if registration is None:
        return None
    try:
        datetime.fromisoformat(registration.deadline).timestamp()
    except ValueError:
        return None
    wait = {**registration.wait, "idempotency_key": registration.idempotency_key}
    return {"deadline": registration.deadline, "wait": wait} if "kind" in wait else None


def _task_fields(task: "TaskTry") -> dict[str, Any]:
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
    }


def _print_tasks(tasks: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    for task in tasks:
        if as_json:
            print_json(task)
        else:
            index = "" if task["map_index"] < 0 else f"[{task['map_index']}]"
            name = f"{task['dag_id']}  {task['run_id']}  {task['task_id']}{index}"
            print_line(f"{name}  {task['kind']}, until {task['deadline']}")
    stderr_console().print(f"{pluralize(len(tasks), 'wait')} would be registered.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode="rich", help="Maintain the waits of Airflow tasks."
    )
    group.command(
        help=help_text(reconcile),
        epilog=examples(
            "waitd airflow reconcile --conn-id airflow_default --dry-run", "waitd airflow reconcile --json"
        ),
    )(reconcile)
    app.add_typer(group, name="airflow")
