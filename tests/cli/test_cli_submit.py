import json
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run, assert_fails


def body(url: str, **fields: Any) -> dict[str, Any]:
    conditions = {"success_when": "body.status == 'SUCCEEDED'", "failure_when": "body.status == 'FAILED'"}
    return {"kind": "http", "params": {"endpoint": url, **conditions}, "poke_interval": 0.2, **fields}


@pytest.fixture
def submit(waitd: Run, daemon: str) -> Run:
    return lambda *arguments, **fields: waitd("submit", *arguments, "--url", daemon, **fields)


def test_one_wait_from_standard_input_prints_its_id(submit: Run, waitd: Run, daemon: str, jobs: str) -> None:
    done = submit("-", input=json.dumps(body(f"{jobs}/endless/1/one")))
    assert (done.returncode, done.stderr) == (0, "")
    shown = waitd("show", done.stdout.strip(), "--json", "--url", daemon)
    assert json.loads(shown.stdout)["params"]["endpoint"] == f"{jobs}/endless/1/one"


@pytest.mark.parametrize("form", ["array", "lines", "lines with gaps"])
def test_many_waits_in_any_form_print_their_ids_in_order(
    submit: Run, waitd: Run, daemon: str, jobs: str, tmp_path: Path, form: str
) -> None:
    bodies = [body(f"{jobs}/endless/1/{n}") for n in range(5)]
    text = {
        "array": json.dumps(bodies, indent=1),
        "lines": "\n".join(map(json.dumps, bodies)),
        "lines with gaps": "\n\n".join(map(json.dumps, bodies)) + "\n\n",
    }[form]
    (tmp_path / "waits").write_text(text)
    done = submit(str(tmp_path / "waits"))
    assert done.returncode == 0
    ids = done.stdout.split()
    assert len(set(ids)) == 5
    last = json.loads(waitd("show", ids[4], "--json", "--url", daemon).stdout)
    assert last["params"]["endpoint"] == f"{jobs}/endless/1/4"


def test_waits_are_sent_in_several_batches(submit: Run, jobs: str) -> None:
    lines = "\n".join(json.dumps(body(f"{jobs}/succeed/0/{n}", poke_interval=60)) for n in range(1003))
    done = submit("-", input=lines)
    assert done.returncode == 0
    assert len(set(done.stdout.split())) == 1003


def test_json_prints_the_daemons_answers_one_on_a_line(submit: Run, jobs: str) -> None:
    lines = json.dumps(body(f"{jobs}/endless/1/a")) + "\n" + json.dumps({"kind": "http", "parms": {}})
    done = submit("-", "--json", input=lines)
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["status"], bad["status"], done.returncode) == (201, 422, 1)
    assert "id" in good
    assert bad["problem"]["errors"][0]["pointer"] == "/parms"


def test_a_refusal_names_the_invalid_field(submit: Run, jobs: str) -> None:
    assert_fails(
        submit("-", input=json.dumps(body(f"{jobs}/endless/1/a", poke_interval="soon"))), 1, "/poke_interval"
    )
    many = submit(
        "-", input=json.dumps([body(f"{jobs}/endless/1/a"), body(f"{jobs}/endless/1/b", timeout=True)])
    )
    assert (many.returncode, len(many.stdout.split())) == (1, 1)
    assert "wait 2" in many.stderr
    assert "/timeout" in many.stderr


def test_one_idempotency_key_gives_one_wait_from_the_option_or_the_object(submit: Run, jobs: str) -> None:
    text = json.dumps(body(f"{jobs}/endless/1/key"))
    first = submit("-", "--idempotency-key", "one-key", input=text)
    inside = json.dumps(body(f"{jobs}/endless/1/key", idempotency_key="one-key"))
    assert first.returncode == 0
    assert (
        first.stdout
        == submit("-", "--idempotency-key", "one-key", input=text).stdout
        == submit("-", input=inside).stdout
    )
    assert_fails(
        submit("-", "--idempotency-key", "one-key", input=json.dumps(body(f"{jobs}/endless/1/other"))), 1
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "contains no wait"),
        ("3", "wait 1 is not a JSON object"),
        ('[{}, "x"]', "wait 2 is not a JSON object"),
        ('{"a": 1}\n{"a": \n{"a": 1}', "line 2"),
    ],
)
def test_invalid_input_is_refused_before_anything_is_sent(
    waitd: Run, unused_url: str, text: str, message: str
) -> None:
    assert_fails(waitd("submit", "-", "--url", unused_url, input=text), 2, message)


def test_a_missing_file_is_a_usage_error(waitd: Run) -> None:
    assert_fails(waitd("submit", "/nowhere/wait.json"), 2, "No such file")


def test_one_idempotency_key_for_many_waits_is_a_usage_error(submit: Run) -> None:
    assert_fails(submit("-", "--idempotency-key", "k", input="[{}, {}]"), 2, "its own idempotency_key")


@pytest.mark.parametrize(
    ("job", "fields", "code", "state"),
    [
        ("succeed/0.3", {}, 0, "success"),
        ("fail/0.3", {}, 1, "failed"),
        ("endless/0", {"timeout": 0.5}, 124, "timeout"),
    ],
)
def test_wait_exits_with_the_code_of_the_outcome(
    submit: Run, jobs: str, job: str, fields: dict[str, Any], code: int, state: str
) -> None:
    text = json.dumps(body(f"{jobs}/{job}/wait", **fields))
    done = submit("-", "--wait", "--json", input=text)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (code, state)


def test_wait_prints_every_outcome_and_exits_with_the_worst(submit: Run, jobs: str) -> None:
    bodies = [body(f"{jobs}/{job}/many") for job in ("succeed/0.2", "fail/0.2", "succeed/0")]
    done = submit("-", "--wait", input=json.dumps(bodies))
    assert done.returncode == 1
    assert [line.split(" · ")[1] for line in done.stdout.splitlines()] == ["success", "failed", "success"]
    assert "2 success, 1 failed" in done.stderr
