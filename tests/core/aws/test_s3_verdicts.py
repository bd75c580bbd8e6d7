"""The verdict of each error response of S3."""

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
def test_a_refusal_asks_for_other_credentials(status: int, code: str, reason: str) -> None:
    refused = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(refused, CredentialsRefused)
    assert isinstance(refused.verdict, Failure)
    assert (refused.verdict.reason, refused.verdict.silenceable) == (reason, True)


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        (S3Operation.HEAD, "ListBucket"),
        (S3Operation.LIST, "ListBucket"),
        (S3Operation.TAGS, "GetObjectTagging"),
    ],
)
def test_a_denial_names_the_permission_that_may_be_missing(operation: S3Operation, permission: str) -> None:
    refused = s3_verdict(AwsError(403, "AccessDenied"), operation)
    assert isinstance(refused, CredentialsRefused)
    assert f"s3:{permission}" in refused.verdict.message


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
        (403, "RequestTimeTooSkewed", "clock_skew"),
        (100, "", "http_100"),
    ],
)
def test_an_error_that_says_nothing_about_the_target_is_unreachable(
    status: int, code: str, reason: str
) -> None:
    verdict = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == reason


@pytest.mark.parametrize("code", ["ExpiredToken", "TokenRefreshRequired", "RequestExpired"])
def test_an_expired_token_is_looked_up_afresh_and_never_ends_a_wait(code: str) -> None:
    refused = s3_verdict(AwsError(400, code), S3Operation.LIST)
    assert isinstance(refused, CredentialsRefused)
    assert isinstance(refused.verdict, Unreachable)
    assert refused.verdict.reason == "credentials_expired"


def test_retry_after_is_in_the_verdict() -> None:
    verdict = s3_verdict(AwsError(503, "SlowDown", retry_after=7.0), S3Operation.HEAD)
    assert verdict == Unreachable("http_503", "HTTP 503 Service Unavailable: SlowDown", 7.0)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidBucketName"), (405, "MethodNotAllowed"), (418, "")]
)
def test_any_other_4xx_is_a_silenceable_failure(status: int, code: str) -> None:
    verdict = s3_verdict(AwsError(status, code), S3Operation.LIST)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == (f"http_{status}", True)
