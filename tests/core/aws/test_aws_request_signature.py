"""Signatures of requests to any AWS service, against botocore's own."""

from calendar import timegm
from datetime import datetime, timezone
from unittest.mock import patch
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.aws.signature import AwsKeys, AwsSigner

MOMENT = datetime(2026, 11, 21, 2, 41, 7, tzinfo=timezone.utc)  # noqa: UP017 - botocore's own spelling
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


def botocore_headers(
    signer: AwsSigner, method: str, url: str, headers: dict[str, str], body: bytes
) -> dict[str, str]:
    keys = signer.keys
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    request = AWSRequest(method, url, headers=headers, data=body)
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT):
        botocore.auth.SigV4Auth(credentials, signer.service, signer.region).add_auth(request)
    return dict(request.headers.items())


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(TEXT.filter(lambda text: text not in {"", ".", ".."}), max_size=4),
    query=st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=4),
    token=st.none() | st.just("session/token"),
    body=st.binary(max_size=20),
)
def test_a_signature_is_the_one_that_botocore_makes(
    method: str, path: list[str], query: list[tuple[str, str]], token: str | None, body: bytes
) -> None:
    signer = AwsSigner("execute-api", "eu-west-1", AwsKeys("AKIA", "secret/+=", token))
    url = "https://h.example:8443/" + "/".join(quote(part, safe="") for part in path)
    if query:
        url += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AWSGlue.GetJobRun",
        "X-Other": "a",
    }
    signed = {
        name: value for name, value in headers.items() if name != "X-Other"
    }  # botocore signs all that it is given
    expected = botocore_headers(signer, method, url, signed, body)
    own = signer.headers(method, url, headers, body, now=timegm(MOMENT.timetuple()) + 0.5)
    assert own["Authorization"] == expected["Authorization"]
    assert own["X-Amz-Date"] == expected["X-Amz-Date"]
    assert own.get("X-Amz-Security-Token") == token


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("https://glue.eu-west-1.amazonaws.com/", b'{"JobName": "x"}'),
        ("https://h.example/stage/jobs%2F1/x", b""),
        ("https://h.example/a%20b?b=2&a=1&a=0&c=%2F", b""),
        ("http://h.example:80/x", b""),
        ("https://h.example:8443", b""),
    ],
)
def test_the_whole_header_is_botocores(url: str, body: bytes) -> None:
    signer = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret", "token"))
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSGlue.GetJobRun"}
    own = signer.headers("POST", url, headers, body, now=timegm(MOMENT.timetuple()))
    assert own["Authorization"] == botocore_headers(signer, "POST", url, headers, body)["Authorization"]


def test_a_signer_does_not_show_its_secrets() -> None:
    assert "planted" not in repr(AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "planted", "planted")))


def test_an_s3_request_names_its_body_and_takes_its_path_as_it_is() -> None:
    signer = AwsSigner("s3", "eu-west-1", AwsKeys("AKIA", "secret"))
    url = "https://b.s3.eu-west-1.amazonaws.com/a//b%2520c"
    request = AWSRequest("PUT", url, headers={}, data=b"x")
    credentials = Credentials("AKIA", "secret")
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT):
        botocore.auth.S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(request)
    own = signer.headers("PUT", url, None, b"x", now=timegm(MOMENT.timetuple()))
    assert own == {name: request.headers[name] for name in own}
    assert {name.lower() for name in own} == {"authorization", "x-amz-content-sha256", "x-amz-date"}


@pytest.mark.parametrize(
    "url", ["https://h.example:443/x", "http://H.example:80/x", "http://h.example:443/x"]
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(url: str) -> None:
    signer = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret"))
    own = signer.headers("GET", url, None, None, now=timegm(MOMENT.timetuple()))
    assert own["Authorization"] == botocore_headers(signer, "GET", url, {}, b"")["Authorization"]
