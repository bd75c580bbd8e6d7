"""What the refusal of a Python callable says: each condition is compiled by waitd, so that what is shown can be pasted."""

from collections.abc import Callable
from typing import Any

import pytest

from waitd.airflow.conditions import Untranslatable, cel_of, refuse_callable
from waitd.probes.cel.evaluation import RESPONSE_ENV
from waitd.probes.cel.files import check_problem


def plain(response: Any) -> bool:
    return bool(response.json()["state"] == "DONE")


def documented(response: Any, **context: Any) -> Any:
    """Airflow passes the context, too."""
    return response.status_code == 200 and "done" in response.text


def in_steps(response: Any) -> Any:
    state = response.json()["state"]
    return state == "DONE"


RESPONSES: list[tuple[Callable[..., Any], str]] = [
    (plain, "body.state == 'DONE'"),
    (documented, "status == 200 && text.contains('done')"),
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
def test_a_response_check_as_a_condition(check: Callable[..., Any], condition: str) -> None:
    assert cel_of(check, argument_is="response") == condition
    RESPONSE_ENV.compile(condition)


@pytest.mark.parametrize(("check", "condition"), FILES, ids=[condition for _, condition in FILES])
def test_a_check_fn_as_a_condition(check: Callable[..., Any], condition: str) -> None:
    assert cel_of(check, argument_is="files") == condition
    assert check_problem(condition) is None


@pytest.mark.parametrize(
    "check",
    [
        in_steps,
        len,
        lambda response: response.elapsed.total_seconds() < 3,
        lambda response: 0 < response.json()["rows"] < 3,
        lambda: True,
        lambda response: [row for row in response.json()["rows"] if row],
    ],
    ids=[
        "more than an expression",
        "no source",
        "nothing of the sort in CEL",
        "a chain",
        "no argument",
        "a list",
    ],
)
def test_what_is_no_condition_is_not_guessed(check: Callable[..., Any]) -> None:
    with pytest.raises(Untranslatable):
        cel_of(check, argument_is="response")


def refusal(given: Any) -> str:
    with pytest.raises(ValueError) as refused:
        refuse_callable(
            "response_check",
            given,
            instead="success_when",
            argument_is="response",
            examples=("body.rows > 0",),
        )
    return str(refused.value)


def test_the_refusal_shows_what_to_write() -> None:
    assert refusal(plain).endswith("in CEL, here:\n    success_when=\"body.state == 'DONE'\",")
    assert refusal(in_steps).endswith("in CEL, e.g.:\n    success_when='body.rows > 0',")
    assert "give a condition as success_when='status == 200'" in refusal("status == 200")
