import json
from pathlib import Path

import pytest
from cli_process import Run, assert_fails

CONDITION = "body.status == 'DONE' && (status == 200 || body.job.state == 'x')"


@pytest.fixture
def sample(tmp_path: Path) -> str:
    file = tmp_path / "sample"
    file.write_text('{"status": "RUNNING", "job": {"id": 1}}')
    return str(file)


def test_the_values_of_the_parts_and_of_the_fields_are_shown(waitd: Run, sample: str) -> None:
    done = waitd("check", CONDITION, "--body", sample)
    assert done.stdout.splitlines() == [
        f"{CONDITION}: false",
        "  body.status == 'DONE': false",
        '    body.status "RUNNING"',
        "  status == 200: true",
        "    status 200",
        "  body.job.state == 'x': error: Key not found in map : \"state\"",
        "    body.job.state is missing; beside it: id",
    ]
    assert done.returncode == 1, done.stderr


@pytest.mark.parametrize(
    ("expression", "more", "code"),
    [
        ("body.status == 'RUNNING'", (), 0),
        ("status == 503 && headers['x-state'] == 'busy'", ("--status", "503", "--header", "X-State: busy"), 0),
        ("text.contains('DONE')", (), 1),
        ("body.gone", (), 1),
        ("body.job", (), 0),
    ],
)  # fmt: skip
def test_the_exit_code_tells_whether_it_holds(
    waitd: Run, sample: str, expression: str, more: tuple[str, ...], code: int
) -> None:
    done = waitd("check", expression, "--body", sample, *more)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("kind", "document", "expression"),
    [
        ("s3_key", '[{"Key": "a", "Size": 3}]', "files.all(f, f.Size > 0)"),
        ("sql", '[{"state": "loaded"}]', "rows[0].state == 'loaded'"),
        ("signal", '{"ok": true}', "payload.ok"),
    ],
)
def test_each_kind_has_its_variables(
    waitd: Run, tmp_path: Path, kind: str, document: str, expression: str
) -> None:
    file = tmp_path / "sample"
    file.write_text(document)
    done = waitd("check", expression, "--kind", kind, "--body", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["value"] is True


def test_a_url_is_asked_once(waitd: Run, jobs: str) -> None:
    done = waitd("check", "status == 202 && body.status == 'RUNNING'", "--url", f"{jobs}/endless/0/check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'body.status "RUNNING"' in done.stdout


def test_an_s3_url_has_files(waitd: Run, s3: dict[str, str]) -> None:
    done = waitd(
        "check",
        "size(files) == 1 && files[0].Size >= 0",
        "--url",
        "s3://bucket/jobs/succeed/0/check/_SUCCESS",
        **s3,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wait_of_the_daemon_is_poked_once(waitd: Run, daemon: str, jobs: str) -> None:
    params = {"endpoint": f"{jobs}/endless/0/checked", "success_when": "body.status == 'never'"}
    body = json.dumps({"kind": "http", "params": params})
    wait_id = waitd("submit", "-", input=body, WAITD_URL=daemon).stdout.strip()
    done = waitd("check", "body.status == 'RUNNING'", "--wait", wait_id, WAITD_URL=daemon)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'body.status "RUNNING"' in done.stdout


def test_a_target_that_hangs_has_no_sample(waitd: Run, daemon: str, jobs: str) -> None:
    params = {"endpoint": f"{jobs}/dead/0/checked", "request_timeout": 0.5}
    wait_id = waitd("submit", "-", input=json.dumps({"kind": "http", "params": params}), WAITD_URL=daemon)
    done = waitd("check", "true", "--wait", wait_id.stdout.strip(), WAITD_URL=daemon)
    assert_fails(done, 1, "no answer", "in time")


def test_a_wait_that_cannot_be_poked_has_no_sample(waitd: Run, daemon: str) -> None:
    body = json.dumps({"kind": "signal", "params": {"key": "check"}})
    wait_id = waitd("submit", "-", input=body, WAITD_URL=daemon).stdout.strip()
    assert_fails(waitd("check", "payload", "--wait", wait_id, WAITD_URL=daemon), 2, "--body")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("true",), "--body FILE, --url URL or --wait ID"),
        (("true", "--body", "SAMPLE", "--url", "http://127.0.0.1:1"), "one sample"),
        (("true", "--body", "/nowhere"), "cannot read"),
        (("body.x and true", "--body", "SAMPLE"), "did you mean: body.x && true"),
        (("true", "--kind", "s3key", "--body", "SAMPLE"), "did you mean s3_key"),
        (("true", "--kind", "sql", "--body", "SAMPLE"), "array of objects"),
        (("true", "--url", "ftp://host/"), "URL: an absolute"),
    ],
)
def test_a_mistake_is_a_usage_error(waitd: Run, sample: str, arguments: tuple[str, ...], said: str) -> None:
    assert_fails(waitd("check", *(sample if word == "SAMPLE" else word for word in arguments)), 2, said)


def test_an_unreachable_url_has_no_sample(waitd: Run, unused_url: str) -> None:
    assert_fails(waitd("check", "true", "--url", unused_url), 1, "no answer", "refused")
