"""Exercises waitd's provider inside Airflow's Python environment, and prints the results as JSON.

`python provider_inside.py FUNCTION...` runs these functions and those of `provider_tasks`; waitd is
real.
"""

import inspect
import json
import sys
from datetime import timedelta
from importlib import import_module
from typing import Any


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


if __name__ == "__main__":
    functions = globals() | vars(import_module("provider_tasks"))
    print(json.dumps({name: functions[name]() for name in sys.argv[1:]}, default=str))  # noqa: T201 - the output of this script
