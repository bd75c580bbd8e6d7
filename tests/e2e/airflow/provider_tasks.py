"""Executes tasks of the provider in every way; see `provider_inside`."""

import json
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from task_runs import RecordingClient, TaskRun, http_sensor, recorded_log, response, submitted_wait


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
            result = TaskRun(http_sensor("/jobs/x", task_id=name, **arguments)).call("execute")
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
            sensor = http_sensor("/jobs/x", callback_mode="clear", airflow_conn_id=conn_id)
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
            run = TaskRun(http_sensor("/jobs/x", **arguments))
            result = run.call("execute_complete", event=response(**fields))
        results[name] = [result.get("raised"), result.get("message"), lines]
    job: dict[str, Any] = {"connection_id": "c1", "job_type": "sync"}
    submitting = WaitdOperator(
        task_id="submitting", kind="airbyte.job", wait_params={}, submit=job, on_conflict="{{ 'adopt' }}",
        cancel_job_on=["cancelled", "timeout"], wake_on="job {{ params.n }}",
    )  # fmt: skip
    limited = submitted_wait(http_sensor("/jobs/x", task_id="limited", **limit))
    parked = http_sensor("/jobs/x", task_id="parked", **limit).response_timeout
    return {
        "results": results, "submitting": submitted_wait(submitting), "timeout": limited["timeout"], "parked": parked.total_seconds()
    }  # fmt: skip


def executions() -> Any:
    """Every way to execute a task. The job server has `/jobs/done` and `/jobs/running`."""
    running = http_sensor("/jobs/running")
    by_hand = {
        "chosen_options": ["done"],
        "params_input": {},
        "responded_by_user": {"id": "7", "name": "Ada"},
    }
    timed_out = {"error": "The response timeout has passed", "error_type": "timeout"}
    set_state = TaskRun(http_sensor("/jobs/running", task_id="set_state", callback_mode="set_state"))
    stored = response()["params_input"]
    clear: dict[str, Any] = {"callback_mode": "clear"}
    results = {
        "ends at once": TaskRun(http_sensor("/jobs/done", task_id="at_once")).call("execute"),
        "parks": TaskRun(running).call("execute"),
        "parks again": TaskRun(running).call("execute"),
        "parks as deferred": set_state.call("execute"),
        "resumed": TaskRun(running).call("execute_complete", event=response()),
        "failed": TaskRun(running).call("execute_complete", event=response(state="failed")),
        "failed with soft_fail": TaskRun(running).call(
            "execute_complete", event=response(state="failed", soft_fail=True)
        ),
        "timed out": TaskRun(running).call("execute_complete", event=response(state="timeout")),
        "response of a person": TaskRun(running).call("execute_complete", event=by_hand),
        "response for an older try": TaskRun(running).call("execute_complete", event=response(ti_id="older")),
        "never resumed": TaskRun(running).call("execute_complete", event=timed_out),
        "never resumed with never_fail": TaskRun(
            http_sensor("/jobs/running", task_id="never", never_fail=True)
        ).call("execute_complete", event=timed_out),
        "cleared": TaskRun(
            http_sensor("/jobs/running", task_id="cleared", **clear), try_number=2, waitd_outcome=stored
        ).call("execute"),
        "outcome of an older try": TaskRun(
            http_sensor("/jobs/running", task_id="later", **clear), try_number=5, waitd_outcome=stored
        ).call("execute"),
        "invalid wait": TaskRun(
            http_sensor("/jobs/running", task_id="invalid", success_when="bodi == 1")
        ).call("execute"),
        "waitd unreachable": TaskRun(
            http_sensor("/jobs/running", task_id="nowhere", waitd_conn_id="nowhere", register_timeout=0)
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
    run = TaskRun(http_sensor("/jobs/running", task_id="notified", notifiers=[notifier]))
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
    submitted = {name: submitted_wait(operator, **xcoms) for name, operator in waits.items()}
    return {
        name: [wait["params"], wait["labels"]] if "params" in wait else wait["message"]
        for name, wait in submitted.items()
    }
