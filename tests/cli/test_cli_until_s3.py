import json

import pytest
from cli_process import Run, assert_fails

FAST = ("--poke-interval", "0.1", "--request-timeout", "1")


@pytest.fixture
def until(waitd: Run, s3: dict[str, str]) -> Run:
    return lambda *arguments, **options: waitd("until", "s3", *arguments, *FAST, **{**s3, **options})


def test_a_key_that_appears_is_0_and_its_attributes_are_printed(until: Run) -> None:
    done = until("s3://bucket/jobs/succeed/0.5/until/_SUCCESS", "--timeout", "30")
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        [{"Size": 0, "Key": "jobs/succeed/0.5/until/_SUCCESS"}],
    )
    assert "pending" in done.stderr


def test_a_key_that_never_appears_is_124(until: Run) -> None:
    done = until("s3://bucket/jobs/endless/0/until/_SUCCESS", "--timeout", "0.5", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (124, "timeout")


def test_a_store_that_answers_slow_down_is_poked_again(until: Run) -> None:
    done = until("s3://bucket/jobs/unavailable/0/keys/_SUCCESS", "--timeout", "30", "--json")
    assert (done.returncode, json.loads(done.stdout)["pokes"]) == (0, 4)
    assert "503" in done.stderr


def test_all_of_several_keys_must_exist(until: Run) -> None:
    there, late = "s3://bucket/jobs/succeed/0/both/_SUCCESS", "s3://bucket/jobs/endless/0/both/_SUCCESS"
    assert until(there, late, "--timeout", "0.5").returncode == 124
    assert until(there, there, "--timeout", "30").returncode == 0


@pytest.mark.parametrize(
    ("key", "flag"),
    [("jobs/succeed/0/some/*.parquet", "--wildcard"), ("jobs/succeed/0/some/part.*", "--regex")],
)
def test_patterns_and_a_check_apply_to_matching_keys(until: Run, key: str, flag: str) -> None:
    options = (flag, "--check", "files[0].Size > 0", "--metadata-key", "Key", "--metadata-key", "Size")
    done = until(f"s3://bucket/{key}", *options, "--timeout", "30")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"Key": "jobs/succeed/0/some/part-00000.parquet", "Size": 256}]
    assert (
        until(f"s3://bucket/{key}", flag, "--check", "size(files) > 9", "--timeout", "0.5").returncode == 124
    )


def test_a_connection_names_the_store(waitd: Run, s3: dict[str, str]) -> None:
    extra = {"endpoint_url": s3["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
    key = "s3://bucket/jobs/succeed/0/conn/_SUCCESS"
    done = waitd("until", "s3", key, "--aws-conn-id", "minio", AIRFLOW_CONN_MINIO=json.dumps(connection))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bucket/key",), "S3URL"),
        (("s3://bucket/[a-", "--regex"), "S3URL"),
        (("s3://bucket/a", "--regex", "--wildcard"), "--regex"),
        (("s3://bucket/a", "--check", "size(files"), "--check"),
        (("s3://bucket/a", "--region-name", "not a region"), "--region-name"),
        (("s3://bucket/a", "--metadata-key", "Colour"), "--metadata-key"),
    ],
)
def test_invalid_options_are_named_before_anything_is_poked(
    until: Run, arguments: tuple[str, ...], message: str
) -> None:
    assert_fails(until(*arguments), 2, message)
