"""Signatures of S3 requests without a body, compared with botocore's."""

from calendar import timegm

from botocore.utils import percent_encode
from botocore_signatures import MOMENT, botocore_headers
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.aws.signature import AwsKeys, AwsSigner, S3Signer, encoded_path, encoded_query

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.sampled_from(["GET", "HEAD"]),
    TEXT.map(lambda key: "/bucket/" + key),
    st.dictionaries(st.sampled_from(["list-type", "prefix", "max-keys", "continuation-token"]), TEXT),
    st.none() | st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
    st.sampled_from([(), (("X-Amz-Checksum-Mode", "ENABLED"), ("X-Amz-Optional-Object-Attributes", "A"))]),
)
def test_a_signature_equals_botocores(
    method: str, path: str, query: dict[str, str], token: str | None, extra: tuple[tuple[str, str], ...]
) -> None:
    keys = AwsKeys("AKIA", "secret/+=", token)
    sent_path, sent_query = encoded_path(path), encoded_query(query)
    url = f"http://host:9000{sent_path}" + (f"?{sent_query}" if sent_query else "")
    expected = botocore_headers(AwsSigner("s3", "eu-west-3", keys), method, url, dict(extra), None)
    now = timegm(MOMENT.timetuple()) + 0.75
    signer = S3Signer(keys, "eu-west-3", "host:9000", extra)
    headers = signer.headers(method, sent_path, sent_query, now=now)
    assert headers["Authorization"] == expected["Authorization"]
    assert headers["X-Amz-Date"] == "20261121T024107Z"
    assert headers.get("X-Amz-Security-Token") == token


def test_a_signer_signs_for_any_second_in_any_order() -> None:
    keys, region, host = AwsKeys("AKIA", "secret", "token"), "eu-west-3", "host:9000"
    signer = S3Signer(keys, region, host)
    day = 86_400.0
    for now in (0.0, 0.9, 1.0, day - 1, day, 1.0, 1_795_000_000.5):
        for path in ("/bucket/a", "/bucket/b"):
            fresh = S3Signer(keys, region, host).headers("HEAD", path, "", now=now)
            assert signer.headers("HEAD", path, "", now=now) == fresh


@given(TEXT, TEXT)
def test_text_is_encoded_as_botocore_encodes_it(path: str, value: str) -> None:
    assert encoded_path(path) == percent_encode(path, safe="/~")
    assert encoded_query({"b": value, "a": ""}) == "a=&b=" + percent_encode(value, safe="-._~")


def test_the_repr_of_keys_hides_their_secrets() -> None:
    assert "secret" not in repr(AwsKeys("AKIA", "secret", "secret token"))
