"""What a task tells waitd: the body of its wait, and the keys under which it stands. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from waitd.core.airflow.callback import TaskTry
from waitd.models import Registration

#: The longest key that waitd takes, characters.
MAX_KEY = 256


class Task(TaskTry):
    """One try of a task instance, as Airflow's runtime knows it."""

    __slots__ = ()

    @classmethod
    def of(cls, ti: Any) -> "Task":
        """The one that `context["ti"]` is."""
        index = -1 if ti.map_index is None else ti.map_index
        return cls(ti.dag_id, ti.run_id, ti.task_id, index, str(ti.id), ti.try_number)

    @property
    def idempotency_key(self) -> str:
        """The same however often this try registers."""
        return f"airflow/{self.ti_id}/{self.try_number}"

    def supersede_key(self, airflow_conn_id: str) -> str:
        """The same for every try: a newer one takes the place of the older. Hashed where the names make no key."""
        names = [airflow_conn_id, self.dag_id, self.run_id, self.task_id, str(self.map_index)]
        readable = "/".join(["airflow", *names])
        if len(readable) <= MAX_KEY and readable.isprintable() and all("/" not in name for name in names):
            return readable
        return "airflow/" + sha256(json.dumps(names).encode()).hexdigest()

    @property
    def labels(self) -> dict[str, str]:
        """What its wait is found by."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index),
            "try_number": str(self.try_number),
        }

    def sink(self, mode: str, airflow_conn_id: str) -> dict[str, Any]:
        """The way back to it, as waitd takes it."""
        return {"kind": "airflow", "conn_id": airflow_conn_id, "mode": mode, **self._asdict()}


def wait_body(
    task: Task,
    *,
    kind: str,
    params: Mapping[str, Any],
    timing: Mapping[str, Any],
    mode: str,
    airflow_conn_id: str,
    sinks: Sequence[Mapping[str, Any]] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The body of `POST /v1/waits`. `timing` has `poke_interval`, `timeout` (seconds), `soft_fail` and their like."""
    return {
        "kind": kind,
        "params": dict(params),
        **timing,
        "sinks": [task.sink(mode, airflow_conn_id), *map(dict, sinks)],
        "labels": {**(labels or {}), **task.labels},
        "supersede_key": task.supersede_key(airflow_conn_id),
    }


def registration_of(task: Task, body: Mapping[str, Any], now: datetime) -> Registration:
    """What is left in Airflow. Its deadline is when waitd would give up; `now` knows its zone."""
    deadline = (now + timedelta(seconds=body["timeout"])).astimezone(UTC)
    return Registration(wait=dict(body), idempotency_key=task.idempotency_key, deadline=deadline.isoformat())
