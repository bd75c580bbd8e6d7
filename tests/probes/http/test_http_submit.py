"""`submit` of kind `http`: what is wrong with it is told at submit, with a pointer."""

from typing import Any

import pytest
from one_connection import OneConnection

from waitd.core.errors import InvalidInput
from waitd.probes.http.probe import HttpProbe

RIGHT: dict[str, Any] = {"endpoint": "https://jobs.example.org/jobs", "handle": "body.job.id"}
PARAMS: dict[str, Any] = {"endpoint": "https://jobs.example.org/jobs/{handle}"}


def probe() -> HttpProbe:
    return HttpProbe(OneConnection(), secret_headers=("authorization", "*-token"))


def pointers(submit: Any, params: Any = None) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        probe().parse_submit(submit, PARAMS if params is None else params, namespace="default")
    return [problem.pointer for problem in refused.value.problems]


def test_what_is_right_is_taken() -> None:
    plan = probe().parse_submit(RIGHT, PARAMS, namespace="default")
    assert plan.params_with(PARAMS, "a/b", None)["endpoint"] == "https://jobs.example.org/jobs/a%2Fb"  # type: ignore[arg-type]
    assert (plan.rules.idempotent, plan.rules.on_conflict, plan.request_timeout) == (True, "fail", 30.0)


@pytest.mark.parametrize(
    ("submit", "wanted"),
    [
        ({}, ["/submit/handle"]),
        ({**RIGHT, "handle": "body.("}, ["/submit/handle"]),
        ({**RIGHT, "handle": "nothing.id"}, ["/submit/handle"]),
        ({**RIGHT, "endpoint": "/jobs"}, ["/submit/endpoint"]),
        ({**RIGHT, "endpoint": "https://u:p@h/jobs"}, ["/submit/endpoint"]),
        ({**RIGHT, "headers": {"Authorization": "x"}}, ["/submit/headers/Authorization"]),
        ({**RIGHT, "idempotency_header": "X-Token"}, ["/submit/idempotency_header"]),
        ({**RIGHT, "method": "GET"}, ["/submit/method"]),
        ({**RIGHT, "method": "PUT", "idempotent": False}, ["/submit/method"]),
        ({**RIGHT, "json": {"id": "{handle}"}}, ["/submit"]),
        ({**RIGHT, "data": "{idempotency_key}"}, ["/submit/data"]),
        ({**RIGHT, "on_conflict": "adopt"}, ["/submit/adopt"]),
        ({**RIGHT, "on_conflict": "adopt", "adopt": {"endpoint": "x", "handle": "("}}, ["/submit/adopt/handle", "/submit/adopt/endpoint"]),
        ({**RIGHT, "cancel_job_on": ["cancelled"]}, ["/submit/cancel"]),
        ({**RIGHT, "cancel_job_on": ["failed"]}, ["/submit/cancel_job_on/0"]),
        ({**RIGHT, "cancel": {"endpoint": "//h/x"}}, ["/submit/cancel/endpoint"]),
        ({**RIGHT, "unknown": 1}, ["/submit/unknown"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_pointed_at(submit: Any, wanted: list[str]) -> None:
    assert pointers(submit) == wanted


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"endpoint": "/jobs/{handle}"}, ["/params/endpoint"]),
        ({**PARAMS, "success_when": "body.id == '{handle}'"}, ["/params/success_when"]),
        ({**PARAMS, "success_when": "body.("}, ["/params/success_when"]),
        ({**PARAMS, "json": "{handle.id}"}, ["/params"]),
    ],
)
def test_the_waits_own_parameters_are_checked_as_they_will_be(params: Any, wanted: list[str]) -> None:
    assert pointers(RIGHT, params) == wanted


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        (PARAMS, "/endpoint"),
        ({"endpoint": "https://h/x", "request_params": {"id": "{handle}"}}, "/request_params"),
        ({"endpoint": "https://h/x", "json": {"a": ["{handle.id}"]}}, "/json"),
        ({"endpoint": "https://h/{idempotency_key}"}, "/endpoint"),
    ],
)
def test_a_placeholder_without_a_submit_is_an_error(params: Any, wanted: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        probe().parse(params, namespace="default")
    assert [problem.pointer for problem in refused.value.problems] == [wanted]
    assert "submit" in str(refused.value)
