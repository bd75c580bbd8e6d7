"""Executes tasks of waitd's provider inside Airflow's environment.

Airflow's supervisor, which a task calls over a pipe, is replaced by a recorder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Self
from uuid import NAMESPACE_DNS, uuid5

DONE: dict[str, Any] = {"success_when": "body.status == 'SUCCEEDED'", "http_conn_id": "jobs"}


class Supervisor:
    """Records the messages that a task sends."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, msg: Any = None, **_: Any) -> Any:
        self.sent.append(msg)
        return None


class StateStore(dict[str, Any]):
    """The task's state store, in memory."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


class TaskRun:
    """Executes one task instance, and records what it did."""

    def __init__(self, operator: Any, try_number: int = 1, **store: Any) -> None:
        from airflow.sdk.execution_time import task_runner

        self.operator = operator
        self.supervisor = task_runner.SUPERVISOR_COMMS = Supervisor()
        self.xcoms: dict[str, Any] = {}
        ti = SimpleNamespace(
            id=ti_id(operator.task_id), dag_id="etl", run_id="r1", task_id=operator.task_id, map_index=-1, try_number=try_number,
            xcom_push=self.xcoms.__setitem__,
        )  # fmt: skip
        self.store = StateStore(store)
        self.context = {"ti": ti, "task_instance": ti, "task_state_store": self.store}

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The result of a method of the operator: `returned`, or `raised` and its message."""
        try:
            result: dict[str, Any] = {
                "returned": getattr(self.operator, method)(context=self.context, **arguments)
            }
        except BaseException as error:  # noqa: BLE001 - parking raises as well
            result = {"raised": type(error).__name__, "message": str(error)}
        texts = [message.body for message in self.supervisor.sent if hasattr(message, "body")]
        return result | {
            "xcoms": self.xcoms,
            "store": sorted(self.store),
            "text": texts[-1] if texts else None,
        }


def ti_id(task_id: str) -> str:
    return str(uuid5(NAMESPACE_DNS, task_id))


def http_sensor(endpoint: str, **arguments: Any) -> Any:
    from waitd.airflow.sensors import WaitdHttpSensor

    return WaitdHttpSensor(
        task_id=arguments.pop("task_id", "wait"), endpoint=endpoint, **{**DONE, **arguments}
    )


def response(**fields: Any) -> dict[str, Any]:
    outcome = {
        "event_id": "01a1fee1-dcb8-71ab-adca-72e0e7a91a00", "ti_id": ti_id("wait"), "try_number": 1, "state": "success",
        "payload": {"rows": 3}, "message": "no rows", "reason": "success", "soft_fail": False,
    }  # fmt: skip
    return {
        "chosen_options": ["done"],
        "params_input": outcome | fields,
        "responded_by_user": {"id": "1", "name": "waitd"},
    }


class RecordingClient:
    """A client of waitd that records what is submitted; each wait succeeds at once.

    The first `failures` calls raise WaitdUnreachable.
    """

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.submitted: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, body: Any, idempotency_key: str) -> Any:
        from waitd.airflow.client import WaitdUnreachable

        self.submitted.append({**body, "idempotency_key": idempotency_key})
        if len(self.submitted) <= self.failures:
            raise WaitdUnreachable("waitd does not answer.")
        return {"id": "01a1fee1", "outcome": {"state": "success", "payload": None, "message": ""}}


def submitted_wait(operator: Any, **xcoms: Any) -> Any:
    """Renders an operator's templates, executes it, and returns the wait that it submits."""
    from waitd.airflow.hook import WaitdHook

    run, client = TaskRun(operator), RecordingClient()
    vars(run.context["ti"])["xcom_pull"] = lambda task_ids, **_: xcoms[task_ids]
    run.context["params"] = {"n": 42, "flag": True, "none": None, "seconds": 2.5}
    operator.render_template_fields(run.context)
    WaitdHook.get_conn = lambda _: client  # type: ignore[assignment,method-assign,return-value]  # a recorder
    result = run.call("execute")
    return client.submitted[0] if client.submitted else result


@contextmanager
def recorded_log() -> Iterator[list[str]]:
    """The lines that operators log meanwhile."""
    operators: Any = import_module("waitd.airflow.operators")
    lines: list[str] = []

    def write(message: str, *args: object) -> None:
        line = message % args
        if "outside of the Task Runner" not in line:  # Airflow's, as these tests call `execute`
            lines.append(line)

    operators.WaitdOperator.log = SimpleNamespace(info=write, warning=write, debug=write, error=write)
    try:
        yield lines
    finally:
        del operators.WaitdOperator.log
