"""Our signatures against botocore's own."""

from calendar import timegm
from datetime import datetime, timezone
from unittest.mock import patch

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.aws.signature import AwsKeys, S3Signer, encoded_path, encoded_query

MOMENT = datetime(2026, 11, 21, 2, 41, 7, tzinfo=timezone.utc)  # noqa: UP017 - botocore's own spelling
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def botocore_authorization(method: str, url: str, keys: AwsKeys, region: str) -> str:
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    request = AWSRequest(method, url)
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT):
        botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return str(request.headers["Authorization"])


@given(
    st.sampled_from(["GET", "HEAD"]),
    TEXT.map(lambda key: "/bucket/" + key),
    st.dictionaries(st.sampled_from(["list-type", "prefix", "max-keys", "continuation-token"]), TEXT),
    st.none() | st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
)
def test_a_signature_is_the_one_that_botocore_makes(
    method: str, path: str, query: dict[str, str], token: str | None
) -> None:
    keys = AwsKeys("AKIA", "secret/+=", token)
    where, asked = encoded_path(path), encoded_query(query)
    url = f"http://host:9000{where}" + (f"?{asked}" if asked else "")
    now = timegm(MOMENT.timetuple()) + 0.75
    headers = S3Signer(keys, "eu-west-3", "host:9000").headers(method, where, asked, now=now)
    assert headers["Authorization"] == botocore_authorization(method, url, keys, "eu-west-3")
    assert headers["X-Amz-Date"] == "20261121T024107Z"
    assert headers.get("X-Amz-Security-Token") == token


def test_one_signer_signs_for_any_second_in_any_order() -> None:
    keys, region, host = AwsKeys("AKIA", "secret", "token"), "eu-west-3", "host:9000"
    signer = S3Signer(keys, region, host)
    day = 86_400.0
    for now in (0.0, 0.9, 1.0, day - 1, day, 1.0, 1_795_000_000.5):
        for path in ("/bucket/a", "/bucket/b"):
            own = S3Signer(keys, region, host).headers("HEAD", path, "", now=now)
            assert signer.headers("HEAD", path, "", now=now) == own


@given(TEXT, TEXT)
def test_text_is_encoded_as_botocore_encodes_it(path: str, value: str) -> None:
    assert encoded_path(path) == percent_encode(path, safe="/~")
    assert encoded_query({"b": value, "a": ""}) == "a=&b=" + percent_encode(value, safe="-._~")


def test_keys_hide_their_secrets() -> None:
    assert "secret" not in repr(AwsKeys("AKIA", "secret", "secret token"))
