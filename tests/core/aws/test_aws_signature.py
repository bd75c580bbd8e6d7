"""Signatures of requests to any AWS service, compared with botocore's."""

from calendar import timegm
from urllib.parse import quote

import pytest
from botocore_signatures import MOMENT, botocore_headers
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.aws.signature import AwsKeys, AwsSigner

NOW = timegm(MOMENT.timetuple())
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(TEXT.filter(lambda text: text not in {"", ".", ".."}), max_size=4),
    query=st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=4),
    token=st.none() | st.just("session/token"),
    body=st.binary(max_size=20),
)
def test_a_signature_equals_botocores(
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
    # botocore signs every header that it gets.
    signed = {name: value for name, value in headers.items() if name != "X-Other"}
    expected = botocore_headers(signer, method, url, signed, body)
    own = signer.headers(method, url, headers, body, now=NOW + 0.5)
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
def test_the_authorization_header_equals_botocores(url: str, body: bytes) -> None:
    signer = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret", "token"))
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSGlue.GetJobRun"}
    own = signer.headers("POST", url, headers, body, now=NOW)
    assert own["Authorization"] == botocore_headers(signer, "POST", url, headers, body)["Authorization"]


def test_the_repr_of_a_signer_hides_its_secrets() -> None:
    assert "planted" not in repr(AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "planted", "planted")))


def test_an_s3_request_has_the_digest_of_its_body_and_an_unchanged_path() -> None:
    signer = AwsSigner("s3", "eu-west-1", AwsKeys("AKIA", "secret"))
    url = "https://b.s3.eu-west-1.amazonaws.com/a//b%2520c"
    own = signer.headers("PUT", url, None, b"x", now=NOW)
    assert own.items() <= botocore_headers(signer, "PUT", url, {}, b"x").items()
    assert {name.lower() for name in own} == {"authorization", "x-amz-content-sha256", "x-amz-date"}


@pytest.mark.parametrize(
    "url", ["https://h.example:443/x", "http://H.example:80/x", "http://h.example:443/x"]
)
def test_the_signed_host_is_the_host_that_is_sent(url: str) -> None:
    signer = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret"))
    own = signer.headers("GET", url, None, None, now=NOW)
    assert own["Authorization"] == botocore_headers(signer, "GET", url, {}, b"")["Authorization"]
