"""`submit` of the kind `http`: mistakes are reported with a JSON pointer."""

from typing import Any

import pytest
from fakes import FakeConnections

from waitd.core.errors import InvalidInput
from waitd.probes.http.probe import HttpProbe

SUBMIT: dict[str, Any] = {"endpoint": "https://jobs.example.org/jobs", "handle": "body.job.id"}
PARAMS: dict[str, Any] = {"endpoint": "https://jobs.example.org/jobs/{handle}"}


@pytest.fixture
def probe() -> HttpProbe:
    return HttpProbe(FakeConnections(), secret_headers=("authorization", "*-token"))


def test_a_valid_submit_is_accepted(probe: HttpProbe) -> None:
    plan = probe.parse_submit(SUBMIT, PARAMS, namespace="default")
    assert plan.params_with(PARAMS, "a/b", None)["endpoint"] == "https://jobs.example.org/jobs/a%2Fb"  # type: ignore[arg-type]
    assert (plan.rules.idempotent, plan.rules.on_conflict, plan.request_timeout) == (True, "fail", 30.0)


@pytest.mark.parametrize(
    ("submit", "pointers"),
    [
        ({}, ["/submit/handle"]),
        ({**SUBMIT, "handle": "body.("}, ["/submit/handle"]),
        ({**SUBMIT, "handle": "nothing.id"}, ["/submit/handle"]),
        ({**SUBMIT, "endpoint": "/jobs"}, ["/submit/endpoint"]),
        ({**SUBMIT, "endpoint": "https://u:p@h/jobs"}, ["/submit/endpoint"]),
        ({**SUBMIT, "headers": {"Authorization": "x"}}, ["/submit/headers/Authorization"]),
        ({**SUBMIT, "idempotency_header": "X-Token"}, ["/submit/idempotency_header"]),
        ({**SUBMIT, "method": "GET"}, ["/submit/method"]),
        ({**SUBMIT, "method": "PUT", "idempotent": False}, ["/submit/method"]),
        ({**SUBMIT, "json": {"id": "{handle}"}}, ["/submit"]),
        ({**SUBMIT, "data": "{idempotency_key}"}, ["/submit/data"]),
        ({**SUBMIT, "on_conflict": "adopt"}, ["/submit/adopt"]),
        ({**SUBMIT, "on_conflict": "adopt", "adopt": {"endpoint": "x", "handle": "("}}, ["/submit/adopt/handle", "/submit/adopt/endpoint"]),
        ({**SUBMIT, "cancel_job_on": ["cancelled"]}, ["/submit/cancel"]),
        ({**SUBMIT, "cancel_job_on": ["failed"]}, ["/submit/cancel_job_on/0"]),
        ({**SUBMIT, "cancel": {"endpoint": "//h/x"}}, ["/submit/cancel/endpoint"]),
        ({**SUBMIT, "unknown": 1}, ["/submit/unknown"]),
    ],
)  # fmt: skip
def test_a_mistake_in_submit_is_reported_at_its_field(
    probe: HttpProbe, submit: Any, pointers: list[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        probe.parse_submit(submit, PARAMS, namespace="default")
    assert [problem.pointer for problem in refused.value.problems] == pointers


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"endpoint": "/jobs/{handle}"}, "/params/endpoint"),
        ({**PARAMS, "success_when": "body.id == '{handle}'"}, "/params/success_when"),
        ({**PARAMS, "success_when": "body.("}, "/params/success_when"),
        ({**PARAMS, "json": "{handle.id}"}, "/params"),
    ],
)
def test_params_are_checked_with_their_placeholders_replaced(
    probe: HttpProbe, params: Any, pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        probe.parse_submit(SUBMIT, params, namespace="default")
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        (PARAMS, "/endpoint"),
        ({"endpoint": "https://h/x", "request_params": {"id": "{handle}"}}, "/request_params"),
        ({"endpoint": "https://h/x", "json": {"a": ["{handle.id}"]}}, "/json"),
        ({"endpoint": "https://h/{idempotency_key}"}, "/endpoint"),
    ],
)
def test_a_placeholder_without_submit_is_refused(probe: HttpProbe, params: Any, pointer: str) -> None:
    with pytest.raises(InvalidInput, match="submit") as refused:
        probe.parse(params, namespace="default")
    assert [problem.pointer for problem in refused.value.problems] == [pointer]
