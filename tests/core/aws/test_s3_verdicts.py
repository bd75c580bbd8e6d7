import pytest

from waitd.core.aws.answers import AwsError, S3Operation, s3_verdict
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Failure, Unreachable


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "access_denied"),
        (403, "", "access_denied"),
        (401, "", "access_denied"),
        (403, "InvalidAccessKeyId", "invalid_access_key_id"),
        (403, "SignatureDoesNotMatch", "bad_signature"),
        (400, "InvalidToken", "invalid_token"),
        (404, "NoSuchBucket", "no_such_bucket"),
        (404, "", "no_such_bucket"),
    ],
)
def test_a_refusal_refreshes_the_credentials_and_then_fails_unless_silenced(
    status: int, code: str, reason: str
) -> None:
    found = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(found, CredentialsRefused)
    assert (found.verdict.reason, found.verdict.silenceable) == (reason, True)


@pytest.mark.parametrize("asked", S3Operation)
def test_a_denial_names_the_right_that_may_be_missing(asked: S3Operation) -> None:
    found = s3_verdict(AwsError(403, "AccessDenied"), asked)
    assert isinstance(found, CredentialsRefused)
    assert "s3:ListBucket" in found.verdict.message


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "SlowDown", "http_503"),
        (500, "InternalError", "http_500"),
        (400, "RequestTimeout", "http_400"),
        (429, "", "http_429"),
        (408, "", "http_408"),
        (301, "PermanentRedirect", "http_301"),
        (307, "", "http_307"),
        (400, "ExpiredToken", "credentials_expired"),
        (403, "RequestTimeTooSkewed", "clock_skew"),
        (100, "", "http_100"),
    ],
)
def test_what_says_nothing_of_the_target_ends_nothing(status: int, code: str, reason: str) -> None:
    found = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(found, Unreachable)
    assert found.reason == reason


def test_retry_after_is_handed_on() -> None:
    found = s3_verdict(AwsError(503, "SlowDown", retry_after=7.0), S3Operation.HEAD)
    assert found == Unreachable("http_503", "HTTP 503 Service Unavailable: SlowDown", 7.0)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidBucketName"), (405, "MethodNotAllowed"), (418, "")]
)
def test_any_other_4xx_fails_unless_silenced(status: int, code: str) -> None:
    found = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(found, Failure)
    assert (found.reason, found.silenceable) == (f"http_{status}", True)
