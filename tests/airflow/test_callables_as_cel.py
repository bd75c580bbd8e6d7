"""The conditions shown when a Python callable is refused.

waitd compiles each, so that it can be pasted.
"""

from collections.abc import Callable
from typing import Any

import pytest

from waitd.airflow.conditions import Untranslatable, callable_to_cel, refuse_callable
from waitd.probes.cel.files import FILES_ENV
from waitd.probes.cel.response import RESPONSE_ENV


def single_expression(response: Any) -> bool:
    return bool(response.json()["state"] == "DONE")


def with_docstring(response: Any, **context: Any) -> Any:
    """Airflow also passes the context."""
    return response.status_code == 200 and "done" in response.text


def two_statements(response: Any) -> Any:
    state = response.json()["state"]
    return state == "DONE"


RESPONSES: list[tuple[Callable[..., Any], str]] = [
    (single_expression, "body.state == 'DONE'"),
    (with_docstring, "status == 200 && text.contains('done')"),
    (lambda response: response.json()["job"]["rows"] > 3 or not response.ok, "body.job.rows > 3 || !(status < 400)"),
    (lambda response: response.json().get("state") in ("DONE", "FAILED"), "body.state in ['DONE', 'FAILED']"),
    (lambda response: response.json().get("state") not in ("A", "B"), "!(body.state in ['A', 'B'])"),
    (lambda response: len(response.json()["rows"]) >= 10, "size(body.rows) >= 10"),
    (lambda response: response.json()["rows"][0]["id"] is not None, "body.rows[0].id != null"),
    (lambda response: response.headers["X-State"] == "it's", r"headers['x-state'] == 'it\'s'"),
    (lambda response: response.text.startswith("OK"), "text.startsWith('OK')"),
    (lambda response: all(row["ok"] for row in response.json()["rows"]), "body.rows.all(row, row.ok)"),
    (lambda response: (response.json()["a"] or response.ok) and response.json()["b"], "(body.a || status < 400) && body.b"),
]  # fmt: skip
FILES: list[tuple[Callable[..., Any], str]] = [
    (lambda files: any(f.get("Size", 0) > 1048576 for f in files), "files.exists(f, f.Size > 1048576)"),
    (lambda files: len(files) >= 24 and all(f["Size"] > 0 for f in files), "size(files) >= 24 && files.all(f, f.Size > 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "condition"), RESPONSES, ids=[condition for _, condition in RESPONSES])
def test_a_response_check_is_translated(check: Callable[..., Any], condition: str) -> None:
    assert callable_to_cel(check, argument_is="response") == condition
    RESPONSE_ENV.compile(condition)


@pytest.mark.parametrize(("check", "condition"), FILES, ids=[condition for _, condition in FILES])
def test_a_check_fn_is_translated(check: Callable[..., Any], condition: str) -> None:
    assert callable_to_cel(check, argument_is="files") == condition
    assert FILES_ENV.problem(condition, "BOOL") is None


@pytest.mark.parametrize(
    "check",
    [
        two_statements,
        len,
        lambda response: response.elapsed.total_seconds() < 3,
        lambda response: 0 < response.json()["rows"] < 3,
        lambda: True,
        lambda response: [row for row in response.json()["rows"] if row],
    ],
    ids=[
        "two statements",
        "no source",
        "not in CEL",
        "a chained comparison",
        "no argument",
        "a list comprehension",
    ],
)
def test_a_callable_without_an_equivalent_is_not_guessed(check: Callable[..., Any]) -> None:
    with pytest.raises(Untranslatable):
        callable_to_cel(check, argument_is="response")


def refusal(value: Any) -> str:
    with pytest.raises(ValueError) as refused:
        refuse_callable(
            "response_check",
            value,
            instead="success_when",
            argument_is="response",
            examples=("body.rows > 0",),
        )
    return str(refused.value)


def test_the_error_shows_the_condition_to_write() -> None:
    assert refusal(single_expression).endswith(
        "in CEL instead, here:\n    success_when=\"body.state == 'DONE'\","
    )
    assert refusal(two_statements).endswith("in CEL instead, e.g.:\n    success_when='body.rows > 0',")
    assert "Pass a condition as success_when='status == 200'" in refusal("status == 200")
