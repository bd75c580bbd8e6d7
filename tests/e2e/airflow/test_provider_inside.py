"""The provider in Airflow's environment: imports, metadata, signatures, parse errors."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from waitd import __version__

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def test_the_provider_imports_the_models_and_nothing_of_the_daemon(facts: Any) -> None:
    imported = facts["imports"]
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names <= {"waitd", "airflow"}
    packages = {".".join(name.split(".")[:2]) for name in imported if name.startswith("waitd")}
    assert packages - {"waitd"} == {"waitd.airflow", "waitd.core", "waitd.models"}


def test_an_invalid_argument_of_a_mapped_task_is_not_retried(facts: Any) -> None:
    name, message, interval = facts["mapped"]
    assert (name, interval) == ("AirflowFailException", 5)
    assert "poke_interval" in message


def test_airflow_loads_the_providers_metadata(facts: Any) -> None:
    fields = ("airflow_conn_id", "airflow_user", "ca_file", "public_url", "timeout")
    assert facts["provider"] == {
        "version": __version__,
        "hook": ["waitd.airflow.hook.WaitdHook", "waitd_conn_id", "waitd"],
        "fields": [f"extra__waitd__{field}" for field in fields],
        "links": ["waitd.airflow.links.WaitLink"],
    }


#: Arguments of Airflow's sensors that have another default here, and why.
OTHER_DEFAULTS = {
    "deferrable": "ignored here",
    "region": "an alias that Airflow's own signature check needs",
}


def test_the_sensors_take_the_arguments_of_airflows_sensors(facts: Any) -> None:
    for name, (theirs, ours) in facts["signatures"].items():
        expected = {
            argument: default for argument, default in theirs.items() if argument not in OTHER_DEFAULTS
        }
        assert expected.items() <= ours.items(), name
        assert "deferrable" in ours
        assert {"waitd_conn_id", "callback_mode", "request_timeout"} <= ours.keys() - theirs.keys()


def test_the_migration_table_has_the_arguments_of_airflows_sensors(facts: Any) -> None:
    """Each of them; those that are `the same` or `ignored` are arguments here, too."""
    guide = (ROOT / "waitd" / "airflow" / "README.md").read_text("utf-8")
    table = guide.partition("<!-- migration -->")[2].partition("<!-- end -->")[0]
    rows: dict[str, list[tuple[set[str], str]]] = {}
    ours = ""
    for line in table.strip().splitlines()[2:]:
        sensor, arguments, here = (cell.strip() for cell in line.strip("|").split("|"))
        if sensor:
            ours = "" if arguments else here.strip("`")
            rows.setdefault(ours, [])
        rows[ours] += [(set(re.findall(r"`(\w+)`", arguments)), here)] if arguments else []
    common = rows.pop("")
    assert rows.keys() == facts["signatures"].keys()
    for name, (theirs, accepted) in facts["signatures"].items():
        named = [(argument, here) for arguments, here in rows[name] + common for argument in arguments]
        assert sorted(argument for argument, _ in named) == sorted(theirs), name
        kept = {argument for argument, here in named if here.startswith(("the same", "ignored", "only"))}
        assert kept <= accepted.keys(), name


def test_unsupported_arguments_are_refused_at_parse_time(facts: Any) -> None:
    errors = facts["parse_errors"]
    assert errors["response_check"].endswith("success_when=\"body.state == 'DONE'\",")
    assert errors["check_fn"].endswith("check='files.exists(f, f.Size > 1048576)',")
    assert "verify is not supported" in errors["extra_options"]
    assert errors["verify"].startswith("ValueError: verify: not supported as an argument")
    assert "callback_mode must be one of auto, resume, set_state, clear" in errors["callback_mode"]
    assert "received 'deferred'" in errors["mode"]
    assert "mutually exclusive" in errors["soft_fail"]
    assert "`poke_interval` must be" in errors["poke_interval"]
    assert "wait_params" in errors["params"]
    assert (
        errors["poke_interval 0"] == "ValueError: poke_interval: must be at least 0.1 seconds; received 0.05"
    )
    assert errors["timeout"].startswith("ValueError: timeout: must be above 0 and at most 31,536,000 seconds")
    assert "\nmax_wait: must be at least the poke_interval, 60 seconds; received 1" in errors["timeout"]
    assert errors["success_when"].splitlines() == [
        "ValueError: success_when: not a condition in CEL: 1:12: expected an operator, found '='; CEL writes ==",
        "result: not a condition in CEL: 1:6: expected the name of a field, found the end",
    ]
    assert "check: not a condition in CEL: 1:11: expected ')', found the end" in errors["check"]
    assert errors["kind"].startswith(
        "ValueError: kind: 'airbyte.jobs' is unknown (did you mean 'airbyte.job'?)"
    )
    assert (
        "\nwait_params['jobid']: unknown (did you mean 'job_id'?); known are airbyte_conn_id"
        in errors["wait_params"]
    )
    assert errors["wait_params"].startswith(
        "ValueError: poke_interval: must be at least 1 seconds for airbyte.job"
    )
    assert errors["wait_params"].endswith("\nwait_params: job_id missing")
    assert errors["a value"] == "ValueError: wait_params['job_id']: must be of type integer; received 'x1'"
    assert errors["own kind"] == "nothing"
    unknown, *others = errors["submit"].splitlines()
    assert unknown.startswith(
        "ValueError: submit['connection']: unknown (did you mean 'connection_id'?); known are"
    )
    assert others == [
        "submit['job_type']: must be one of 'sync', 'reset', 'refresh', 'clear'; received 'sink'",
        "submit: connection_id missing",
        "on_conflict: must be wait, adopt or fail; received 'retry'",
        "cancel_job_on: a list of cancelled and timeout; received ['failed']",
    ]
    assert errors["no submit"].startswith("ValueError: cancel_job_on: needs submit")
    assert errors["cannot submit"] == "ValueError: submit: a job of kind s3_key cannot be submitted"
    assert "execution_timeout: must be above 0" in errors["execution_timeout"]


def test_sensors_build_the_requests_of_airflows_sensors(facts: Any) -> None:
    http = {"endpoint": "/x", "http_conn_id": "http_default", "method": "GET"}
    s3 = {"wildcard_match": False, "use_regex": False}
    assert facts["parameters"] == {
        "plain": http,
        "get": http | {"request_params": {"a": [1, 2]}, "headers": {"X-Count": "3"}, "response_error_codes_allowlist": []},
        "head": http | {"method": "HEAD"},
        "post": http
        | {"method": "POST", "data": "a=b+c", "headers": {"Content-Type": "application/x-www-form-urlencoded"}, "request_timeout": 3.0},
        "json": http | {"method": "POST", "json": {"a": 1}, "request_timeout": 4.0},
        "without connection": {"endpoint": "http://h/x", "method": "GET"},
        "key": s3 | {"bucket_key": ["s3://b/k"], "check": "size(files) > 1", "metadata_keys": ["ETag"]},
        "environment": s3 | {"bucket_key": "k", "bucket_name": "b", "aws_conn_id": None},
        "unchanged": {
            "bucket_name": "b", "prefix": "p/", "inactivity_period": 3600, "min_objects": 1, "allow_delete": True,
            "previous_objects": ["p/1", "p/2"],
        },
    }  # fmt: skip
