"""Exercises waitd's provider inside Airflow's Python environment, and prints the results as JSON.

`python provider_inside.py FUNCTION...` runs these functions. Airflow's supervisor, which a task
calls over a pipe, is replaced by a recorder; waitd is real.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Self
from uuid import NAMESPACE_DNS, uuid5

DONE: dict[str, Any] = {"success_when": "body.status == 'SUCCEEDED'", "http_conn_id": "jobs"}


def imports() -> Any:
    """The modules that the provider imports, besides those that Airflow itself imports."""
    for library in (
        "airflow.providers.standard.operators.hitl",
        "airflow.triggers.base",
        "httpx",
        "pydantic",
    ):
        import_module(library)
    before = set(sys.modules)
    for part in ("hook", "provider_info", "sensors"):
        import_module(f"waitd.airflow.{part}")
    return sorted(set(sys.modules) - before)


def provider() -> Any:
    """The provider as Airflow's provider manager sees it."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    hook = manager.hooks["waitd"]
    return {
        "version": manager.providers["waitd"].version,
        "hook": [hook.hook_class_name, hook.connection_id_attribute_name, hook.hook_name],
        "fields": sorted(
            name for name in manager.connection_form_widgets if name.startswith("extra__waitd__")
        ),
        "links": sorted(link for link in manager.extra_links_class_names if link.startswith("waitd")),
    }


def signatures() -> Any:
    """The arguments and defaults of Airflow's sensors and of waitd's."""
    from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor, S3KeysUnchangedSensor
    from airflow.providers.http.sensors.http import HttpSensor

    from waitd.airflow import sensors

    pairs = {
        "WaitdHttpSensor": HttpSensor,
        "WaitdS3KeySensor": S3KeySensor,
        "WaitdS3KeysUnchangedSensor": S3KeysUnchangedSensor,
    }
    return {ours: [_arguments(theirs), _arguments(getattr(sensors, ours))] for ours, theirs in pairs.items()}


def _arguments(sensor: type) -> dict[str, str]:
    from airflow.sdk import BaseOperator

    arguments: dict[str, str] = {}
    for part in sensor.__mro__:
        if part is BaseOperator:
            break
        constructor = vars(part).get("__init__")
        parameters = inspect.signature(constructor).parameters.values() if constructor else ()
        for argument in parameters:
            if argument.kind is argument.KEYWORD_ONLY:
                arguments.setdefault(argument.name, repr(argument.default))
    return arguments


def parse_errors() -> Any:
    """The errors that a DAG author sees for unsupported arguments."""
    # Imported as Any: a type checker refuses most of these calls as well.
    operators: Any = import_module("waitd.airflow.operators")
    sensors: Any = import_module("waitd.airflow.sensors")
    http: dict[str, Any] = {"task_id": "wait", "endpoint": "/x"}
    calls: dict[str, Any] = {
        "response_check": lambda: sensors.WaitdHttpSensor(
            **http, response_check=lambda r: r.json()["state"] == "DONE"
        ),
        "check_fn": lambda: sensors.WaitdS3KeySensor(
            task_id="wait", bucket_key="s3://b/k", check_fn=_any_large
        ),
        "extra_options": lambda: sensors.WaitdHttpSensor(**http, extra_options={"verify": False}),
        "verify": lambda: sensors.WaitdS3KeySensor(task_id="wait", bucket_key="s3://b/k", verify=False),
        "callback_mode": lambda: sensors.WaitdHttpSensor(**http, callback_mode="dag_run"),
        "mode": lambda: sensors.WaitdHttpSensor(**http, mode="deferred"),
        "soft_fail": lambda: sensors.WaitdHttpSensor(**http, soft_fail=True, never_fail=True),
        "poke_interval": lambda: sensors.WaitdHttpSensor(**http, poke_interval="60"),
        "poke_interval 0": lambda: sensors.WaitdHttpSensor(**http, poke_interval=0.05),
        "timeout": lambda: sensors.WaitdHttpSensor(**http, timeout=timedelta(days=400), max_wait=1),
        "success_when": lambda: sensors.WaitdHttpSensor(
            **http, success_when="body.state = 'DONE'", message="a {{ b", result="body."
        ),
        "check": lambda: sensors.WaitdS3KeySensor(task_id="wait", bucket_key="s3://b/k", check="size(files"),
        "kind": lambda: operators.WaitdOperator(task_id="wait", kind="airbyte.jobs", wait_params={}),
        "wait_params": lambda: operators.WaitdOperator(
            task_id="wait", kind="airbyte.job", wait_params={"jobid": 1}, poke_interval=0.5
        ),
        "a value": lambda: operators.WaitdOperator(
            task_id="wait", kind="airbyte.job", wait_params={"job_id": "x1"}
        ),
        "submit": lambda: operators.WaitdOperator(
            task_id="wait",
            kind="airbyte.job",
            wait_params={},
            submit={"connection": "c", "job_type": "sink"},
            on_conflict="retry",
            cancel_job_on=["failed"],
        ),
        "no submit": lambda: sensors.WaitdHttpSensor(**http, cancel_job_on=["cancelled"]),
        "cannot submit": lambda: sensors.WaitdS3KeySensor(task_id="wait", bucket_key="s3://b/k", submit={}),
        "execution_timeout": lambda: sensors.WaitdHttpSensor(**http, execution_timeout=timedelta(0)),
        "own kind": lambda: operators.WaitdOperator(task_id="wait", kind="acme.job", wait_params={"x": 1}),
        "params": lambda: operators.WaitdOperator(task_id="wait", kind="http", params={"endpoint": "/x"}),
    }
    return {name: _error_of(call) for name, call in calls.items()}


def _any_large(files: Any, **context: Any) -> Any:
    return any(f.get("Size", 0) > 1048576 for f in files)


def _error_of(call: Any) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever Airflow would show
        return f"{type(error).__name__}: {error}"
    return "nothing"


def parameters() -> Any:
    """The `params` of the waits that sensors build."""
    from waitd.airflow.sensors import WaitdHttpSensor, WaitdS3KeySensor, WaitdS3KeysUnchangedSensor

    http: dict[str, Any] = {"task_id": "wait", "endpoint": "/x"}
    sensors = {
        "plain": WaitdHttpSensor(**http),
        "get": WaitdHttpSensor(**http, request_params={"a": [1, 2]}, headers={"X-Count": 3}, response_error_codes_allowlist=[]),
        "head": WaitdHttpSensor(**http, method="HEAD", request_params={"a": 1}),
        "post": WaitdHttpSensor(**http, method="post", request_params={"a": "b c"}, request_kwargs={"timeout": 3}),
        "json": WaitdHttpSensor(**http, method="POST", request_kwargs={"json": {"a": 1}}, extra_options={"timeout": 4}),
        "without connection": WaitdHttpSensor(**{**http, "endpoint": "http://h/x"}, http_conn_id=None),
        "key": WaitdS3KeySensor(task_id="wait", bucket_key=["s3://b/k"], check="size(files) > 1", metadata_keys=["ETag"]),
        "environment": WaitdS3KeySensor(task_id="wait", bucket_key="k", bucket_name="b", aws_conn_id=None),
        "unchanged": WaitdS3KeysUnchangedSensor(task_id="wait", bucket_name="b", prefix="p/", previous_objects={"p/2", "p/1"}),
    }  # fmt: skip
    return {name: sensor.parameters() for name, sensor in sensors.items()}


# -------------------------------------------------------- executing tasks, with a real waitd


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
            id=_ti_id(operator.task_id), dag_id="etl", run_id="r1", task_id=operator.task_id, map_index=-1, try_number=try_number,
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


def _ti_id(task_id: str) -> str:
    return str(uuid5(NAMESPACE_DNS, task_id))


def _sensor(endpoint: str, **arguments: Any) -> Any:
    from waitd.airflow.sensors import WaitdHttpSensor

    return WaitdHttpSensor(
        task_id=arguments.pop("task_id", "wait"), endpoint=endpoint, **{**DONE, **arguments}
    )


def _response(**fields: Any) -> dict[str, Any]:
    outcome = {
        "event_id": "01a1fee1-dcb8-71ab-adca-72e0e7a91a00", "ti_id": _ti_id("wait"), "try_number": 1, "state": "success",
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


def _submitted(operator: Any, **xcoms: Any) -> Any:
    """Renders an operator's templates, executes it, and returns the wait that it submits."""
    from waitd.airflow.hook import WaitdHook

    run, client = TaskRun(operator), RecordingClient()
    vars(run.context["ti"])["xcom_pull"] = lambda task_ids, **_: xcoms[task_ids]
    run.context["params"] = {"n": 42, "flag": True, "none": None, "seconds": 2.5}
    operator.render_template_fields(run.context)
    WaitdHook.get_conn = lambda _: client  # type: ignore[assignment,method-assign,return-value]  # a recorder
    result = run.call("execute")
    return client.submitted[0] if client.submitted else result


def templates() -> Any:
    """The waits that come of templates, of other tasks' outputs, and of None."""
    from airflow.sdk import DAG
    from airflow.sdk.bases.operator import BaseOperator

    from waitd.airflow.operators import WaitdOperator
    from waitd.airflow.sensors import WaitdHttpSensor, WaitdS3KeySensor, WaitdS3KeysUnchangedSensor

    with DAG("etl", schedule=None):
        out = {
            name: BaseOperator(task_id=name).output for name in ("number", "text", "none", "mapping", "query")
        }
        xcoms = {
            "number": 7,
            "text": "run-1",
            "none": None,
            "mapping": {"timeout": 3, "json": {"a": 1}},
            "query": {"q": 1, "no": None},
        }
        number = "{{ params.n }}"
        text: dict[str, Any] = {
            "labels": {"n": 3, "flag": True, "none": None, "t": number, "x": out["number"]}
        }
        waits = {
            "integer": WaitdOperator(
                task_id="integer", kind="airbyte.job", wait_params={"job_id": number, "request_timeout": "{{ params.seconds }}"}, **text
            ),
            "output": WaitdOperator(task_id="output", kind="airbyte.job", wait_params={"job_id": out["text"]}),
            "number": WaitdOperator(task_id="for_text", kind="livy.batch", wait_params={"batch_id": out["number"]}),
            "texts": WaitdOperator(
                task_id="texts", kind="emr.serverless", wait_params={"application_id": out["number"], "job_run_id": out["text"]}
            ),
            "mappings": WaitdHttpSensor(
                task_id="mappings", endpoint=out["text"], request_params=out["query"], request_kwargs=out["mapping"], headers=out["query"],
                labels=out["query"],
            ),
            "headers": WaitdHttpSensor(
                task_id="headers", endpoint=number, headers={"X-N": 3, "X-T": number, "X-F": False, "X-No": None, "X-O": out["number"]}
            ),
            "kind": WaitdOperator(task_id="kind", kind="{{ 'airbyte' }}.jobs", wait_params={"job_id": 1}),
            **{
                f"text in {name}": WaitdOperator(
                    task_id=name, kind="other.job", **{"wait_params": {}, name: out["text"]}
                )
                for name in ("wait_params", "submit", "labels", "sinks")
            },
            "text in headers": WaitdHttpSensor(task_id="text_headers", endpoint="/x", headers=out["text"]),
            "missing": WaitdOperator(task_id="missing", kind="airbyte.job", wait_params={"job_id": out["none"]}),
        }  # fmt: skip
        nothing = out["none"]
        fixed: Any = {
            WaitdOperator: {"kind": "http"},
            WaitdHttpSensor: {"endpoint": "/x"},
            WaitdS3KeySensor: {"bucket_key": "s3://b/k"},
            WaitdS3KeysUnchangedSensor: {"bucket_name": "b", "prefix": "p"},
        }
        for operator, needed in fixed.items():
            fields = set(operator.template_fields) - set(needed)
            waits[operator.__name__] = operator(
                task_id=operator.__name__, **needed, **dict.fromkeys(fields, nothing)
            )
    submitted = {name: _submitted(operator, **xcoms) for name, operator in waits.items()}
    return {
        name: [wait["params"], wait["labels"]] if "params" in wait else wait["message"]
        for name, wait in submitted.items()
    }


def mapped() -> Any:
    """What becomes of a mapped task with an invalid argument."""
    from airflow.sdk import DAG

    from waitd.airflow.sensors import WaitdHttpSensor

    with DAG("mapped", schedule=None):
        sensor = WaitdHttpSensor.partial(task_id="mapped", endpoint="/x").expand(poke_interval=[5, -1])
    try:
        sensor.unmap({"poke_interval": -1})
    except Exception as error:  # noqa: BLE001 - the test looks at its type
        return [type(error).__name__, str(error), sensor.unmap({"poke_interval": 5}).poke_interval]
    return None


def patience() -> Any:
    """Tasks whose waitd is away for some calls, or for ever; time is virtual."""
    hook: Any = import_module("waitd.airflow.hook")
    module: Any = import_module("waitd.airflow.patience")
    results = {}
    for name, failures, arguments in (
        ("away", 12, {}),
        ("gone", 10_000, {}),
        ("brief", 10_000, {"register_timeout": 60}),
    ):
        slept: list[float] = [0.0]
        client = RecordingClient(failures)
        hook.WaitdHook.get_conn = lambda _, client=client: client
        module.time = SimpleNamespace(sleep=slept.append, monotonic=lambda slept=slept: sum(slept))
        with recorded_log() as lines:
            result = TaskRun(_sensor("/jobs/x", task_id=name, **arguments)).call("execute")
        results[name] = {
            "raised": result.get("raised"), "seconds": sum(slept), "log": lines,
            "waits": len({json.dumps(body, sort_keys=True) for body in client.submitted}),
        }  # fmt: skip
    return results


def two_airflows() -> Any:
    """The results of cleared tasks below Airflow 3.3, by connection, and the one without a wait.

    waitd has waits with the same labels for two Airflows, the staging one's last.
    """
    hook: Any = import_module("waitd.airflow.hook")
    store: Any = import_module("waitd.airflow.state_store")
    from waitd.airflow.client import WaitdClient

    waits = [
        {
            "id": conn_id, "state": "success", "created_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:01:00Z",
            "outcome": {"state": "success", "payload": conn_id, "message": "", "reason": "success"}, "soft_fail": False, "pokes": 2,
            "sinks": [{"kind": "webhook", "url": "https://x"}, {"kind": "airflow", "mode": "clear", "conn_id": conn_id}],
        }
        for conn_id in ("staging", "production")
    ]  # fmt: skip

    class ListingClient(WaitdClient):
        def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
            query = request.get("params", {})
            if method == "POST":
                raise LookupError("a new wait")
            assert query["label.try_number"] == "1"
            first = int(query.get("page_token", 0))
            last = first + int(query["limit"])
            return {"waits": waits[first:last], "next_page_token": str(last) if last < len(waits) else None}

    real = hook.WaitdHook.get_conn, store.HAS_STATE_STORE
    hook.WaitdHook.get_conn, store.HAS_STATE_STORE = lambda _: ListingClient("http://x"), False
    try:
        results = {}
        for conn_id in ("staging", "production", "third"):
            sensor = _sensor("/jobs/x", callback_mode="clear", airflow_conn_id=conn_id)
            result = TaskRun(sensor, try_number=2).call("execute")
            results[conn_id] = result.get("returned", result.get("message"))
        return results
    finally:
        hook.WaitdHook.get_conn, store.HAS_STATE_STORE = real


def ends() -> Any:
    """How resumed tasks end and what they log; what `execution_timeout` and `submit` become."""
    from waitd.airflow.operators import WaitdOperator

    limit = {"execution_timeout": timedelta(minutes=30)}
    measured = {"pokes": 7, "seconds": 200.4}
    calls: dict[str, Any] = {
        "success": (limit, measured),
        "failed": ({}, {"state": "failed", "pokes": 1, "seconds": 1.0}),
        "older waitd": ({}, {}),
        "timeout": ({}, {"state": "timeout", **measured}),
        "execution_timeout": (limit, {"state": "timeout", **measured}),
        "longer execution_timeout": ({"execution_timeout": timedelta(days=9)}, {"state": "timeout"}),
        "skipped": ({**limit, "soft_fail": True}, {"state": "timeout", "soft_fail": True}),
    }
    results = {}
    for name, (arguments, fields) in calls.items():
        with recorded_log() as lines:
            run = TaskRun(_sensor("/jobs/x", **arguments))
            result = run.call("execute_complete", event=_response(**fields))
        results[name] = [result.get("raised"), result.get("message"), lines]
    job: dict[str, Any] = {"connection_id": "c1", "job_type": "sync"}
    submitting = WaitdOperator(
        task_id="submitting", kind="airbyte.job", wait_params={}, submit=job, on_conflict="{{ 'adopt' }}",
        cancel_job_on=["cancelled", "timeout"], wake_on="job {{ params.n }}",
    )  # fmt: skip
    limited = _submitted(_sensor("/jobs/x", task_id="limited", **limit))
    parked = _sensor("/jobs/x", task_id="parked", **limit).response_timeout
    return {
        "results": results, "submitting": _submitted(submitting), "timeout": limited["timeout"], "parked": parked.total_seconds()
    }  # fmt: skip


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


def executions() -> Any:
    """Every way to execute a task. The job server has `/jobs/done` and `/jobs/running`."""
    running = _sensor("/jobs/running")
    by_hand = {
        "chosen_options": ["done"],
        "params_input": {},
        "responded_by_user": {"id": "7", "name": "Ada"},
    }
    timed_out = {"error": "The response timeout has passed", "error_type": "timeout"}
    set_state = TaskRun(_sensor("/jobs/running", task_id="set_state", callback_mode="set_state"))
    stored = _response()["params_input"]
    clear: dict[str, Any] = {"callback_mode": "clear"}
    results = {
        "ends at once": TaskRun(_sensor("/jobs/done", task_id="at_once")).call("execute"),
        "parks": TaskRun(running).call("execute"),
        "parks again": TaskRun(running).call("execute"),
        "parks as deferred": set_state.call("execute"),
        "resumed": TaskRun(running).call("execute_complete", event=_response()),
        "failed": TaskRun(running).call("execute_complete", event=_response(state="failed")),
        "failed with soft_fail": TaskRun(running).call(
            "execute_complete", event=_response(state="failed", soft_fail=True)
        ),
        "timed out": TaskRun(running).call("execute_complete", event=_response(state="timeout")),
        "response of a person": TaskRun(running).call("execute_complete", event=by_hand),
        "response for an older try": TaskRun(running).call(
            "execute_complete", event=_response(ti_id="older")
        ),
        "never resumed": TaskRun(running).call("execute_complete", event=timed_out),
        "never resumed with never_fail": TaskRun(
            _sensor("/jobs/running", task_id="never", never_fail=True)
        ).call("execute_complete", event=timed_out),
        "cleared": TaskRun(
            _sensor("/jobs/running", task_id="cleared", **clear), try_number=2, waitd_outcome=stored
        ).call("execute"),
        "outcome of an older try": TaskRun(
            _sensor("/jobs/running", task_id="later", **clear), try_number=5, waitd_outcome=stored
        ).call("execute"),
        "invalid wait": TaskRun(_sensor("/jobs/running", task_id="invalid", success_when="bodi == 1")).call(
            "execute"
        ),
        "waitd unreachable": TaskRun(
            _sensor("/jobs/running", task_id="nowhere", waitd_conn_id="nowhere", register_timeout=0)
        ).call("execute"),
    }
    return {"results": results, "registered": set_state.store.get("waitd_registration")}


def notified() -> Any:
    """What the task had stored in Airflow when its notifier was called, and how often it was."""
    from airflow.sdk import BaseNotifier

    stored: list[int] = []

    def notify(_notifier: Any, _context: Any) -> None:
        stored.append(sum(hasattr(message, "body") for message in run.supervisor.sent))

    notifier = type("Notifier", (BaseNotifier,), {"notify": notify})()
    run = TaskRun(_sensor("/jobs/running", task_id="notified", notifiers=[notifier]))
    return {"raised": run.call("execute")["raised"], "stored": stored}


def hostile_answers() -> Any:
    """What the client makes of each answer at `HOSTILE_URL`, and the memory that it took, in MiB.

    Nothing else runs here, so that the highest memory of the process is the client's.
    """
    import os
    import resource

    from waitd.airflow.client import WaitdClient, WaitdRefused, WaitdUnreachable, WaitdVersionMismatch

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    url, results = os.environ["HOSTILE_URL"], {}
    for name in os.environ["HOSTILE_ANSWERS"].split():
        before = peak()
        with WaitdClient(f"{url}/{name}", sleep=lambda _: None, timeout=2.0) as client:
            try:
                outcome = repr(client.get("some"))
            except (WaitdRefused, WaitdUnreachable, WaitdVersionMismatch) as error:
                outcome = f"{type(error).__name__}: {error}"
        results[name] = {"outcome": outcome, "more": peak() - before}
    return results


if __name__ == "__main__":
    print(json.dumps({name: globals()[name]() for name in sys.argv[1:]}, default=str))  # noqa: T201 - the output of this script
