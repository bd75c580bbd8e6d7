"""Builds what a task sends to waitd: the body of its wait and its keys. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from waitd.core.airflow.callback import TaskTry
from waitd.models import Registration

#: The longest supersede key that waitd accepts, in characters.
MAX_KEY_LENGTH = 256


class RegisteringTask(TaskTry):
    """One try of a task instance, with the keys and labels of its wait."""

    __slots__ = ()

    @classmethod
    def from_task_instance(cls, ti: Any) -> "RegisteringTask":
        """Builds it from `context["ti"]`."""
        index = -1 if ti.map_index is None else ti.map_index
        return cls(ti.dag_id, ti.run_id, ti.task_id, index, str(ti.id), ti.try_number)

    @property
    def idempotency_key(self) -> str:
        """The same each time this try registers, so that it registers one wait."""
        return f"airflow/{self.ti_id}/{self.try_number}"

    def supersede_key(self, airflow_conn_id: str) -> str:
        """The same for all tries, so that a new try replaces the wait of an older one.

        It is readable where possible, and a hash if it would be too long or ambiguous.
        """
        names = [airflow_conn_id, self.dag_id, self.run_id, self.task_id, str(self.map_index)]
        readable = "/".join(["airflow", *names])
        if (
            len(readable) <= MAX_KEY_LENGTH
            and readable.isprintable()
            and all("/" not in name for name in names)
        ):
            return readable
        return "airflow/" + sha256(json.dumps(names).encode()).hexdigest()

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which the wait can be found."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index),
            "try_number": str(self.try_number),
        }

    def sink(self, mode: str, airflow_conn_id: str, min_heartbeat_interval: float) -> dict[str, Any]:
        """The sink that delivers the outcome to this task."""
        sink = {"kind": "airflow", "conn_id": airflow_conn_id, "mode": mode, **self._asdict()}
        return sink | {"min_heartbeat_interval": min_heartbeat_interval} if mode == "resume" else sink


def build_wait(
    task: RegisteringTask,
    *,
    kind: str,
    params: Mapping[str, Any],
    timing: Mapping[str, Any],
    mode: str,
    airflow_conn_id: str,
    min_heartbeat_interval: float,
    sinks: Sequence[Mapping[str, Any]] = (),
    labels: Mapping[str, str] | None = None,
    submit: Mapping[str, Any] | None = None,
    wake_on: str | None = None,
) -> dict[str, Any]:
    """Builds the body of `POST /v1/waits`.

    `timing` has `poke_interval`, `timeout` (both in seconds), `soft_fail` and the other fields that
    do not depend on the kind. `min_heartbeat_interval` is Airflow's, of `[workers]`, in seconds.
    """
    return {
        "kind": kind,
        "params": dict(params),
        **timing,
        "sinks": [task.sink(mode, airflow_conn_id, min_heartbeat_interval), *map(dict, sinks)],
        "labels": {**(labels or {}), **task.labels},
        "supersede_key": task.supersede_key(airflow_conn_id),
        **({} if submit is None else {"submit": dict(submit)}),
        **({} if wake_on is None else {"wake_on": wake_on}),
    }


def build_registration(task: RegisteringTask, body: Mapping[str, Any], now: datetime) -> Registration:
    """Builds the copy of the wait that stays in Airflow. `now` must have a time zone."""
    deadline = (now + timedelta(seconds=body["timeout"])).astimezone(UTC)
    return Registration(wait=dict(body), idempotency_key=task.idempotency_key, deadline=deadline.isoformat())
