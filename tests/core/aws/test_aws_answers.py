"""The verdict of each error response of an AWS service."""

import pytest

from waitd.core.aws.answers import AwsError, S3Operation, aws_verdict, s3_verdict
from waitd.core.http.answer import CredentialsRefused, refuses_credentials
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Unreachable


@pytest.mark.parametrize(
    "error",
    [
        AwsError(400, "ThrottlingException", "Rate exceeded", 7.0),
        AwsError(429, "", "", 7.0),
        AwsError(408, "RequestTimeout", "", 7.0),
        AwsError(503, "", "", 7.0),
        AwsError(500, "InternalFailure", "", 7.0),
        AwsError(599, "Unlisted", "", 7.0),
        AwsError(403, "RequestLimitExceeded", "", 7.0),
    ],
)
def test_a_busy_or_broken_service_is_retried_after_its_retry_after(error: AwsError) -> None:
    verdict = aws_verdict(error)
    assert isinstance(verdict, Unreachable)
    assert (verdict.reason, verdict.retry_after) == (f"http_{error.status}", 7.0)
    assert verdict.message.endswith(f": {error.code}") is bool(error.code)
    assert "Rate exceeded" not in verdict.message


def test_a_wrong_clock_is_unreachable() -> None:
    message = "The clock of AWS and the clock of this host differ too much."
    skewed = Unreachable("clock_skew", message)
    assert aws_verdict(AwsError(403, "RequestTimeTooSkewed")) == skewed
    assert aws_verdict(AwsError(403, "RequestExpired")) == CredentialsRefused(skewed)


REFUSED_KEYS = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "TokenRefreshRequired")  # fmt: skip


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("code", REFUSED_KEYS)
def test_each_code_of_a_key_that_expired_asks_for_another_key(status: int, code: str) -> None:
    error = AwsError(status, code)
    assert isinstance(aws_verdict(error), CredentialsRefused)
    assert all(isinstance(s3_verdict(error, operation), CredentialsRefused) for operation in S3Operation)
    assert refuses_credentials(status, b'{"__type": "com.amazon.coral.service#%s"}' % code.encode())


def test_an_expired_token_is_looked_up_afresh_and_never_ends_a_wait() -> None:
    message = "The session token has expired, and there is no newer one."
    expired = Unreachable("credentials_expired", message)
    assert aws_verdict(AwsError(400, "ExpiredTokenException")) == CredentialsRefused(expired)


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (AwsError(400, "UnrecognizedClientException", "planted"), "invalid_access_key_id", "AWS does not know the access key or the session token."),
        (AwsError(403, "SignatureDoesNotMatch", "planted"), "bad_signature", "The signature does not match: the secret access key is wrong."),
        (AwsError(400, "AccessDeniedException", "planted"), "access_denied", "Access denied. HTTP 400 Bad Request: AccessDeniedException"),
        (AwsError(401, "", "planted"), "access_denied", "Access denied. HTTP 401 Unauthorized"),
        (AwsError(403, "Unlisted", "planted"), "access_denied", "Access denied. HTTP 403 Forbidden: Unlisted"),
    ],
)  # fmt: skip
def test_a_refusal_asks_for_other_credentials_and_is_not_quoted(
    error: AwsError, reason: str, message: str
) -> None:
    assert aws_verdict(error) == CredentialsRefused(Failure(reason, message, silenceable=True))


@pytest.mark.parametrize("status", [400, 404, 499])
def test_any_other_4xx_fails_the_wait_with_the_services_message(status: int) -> None:
    verdict = aws_verdict(AwsError(status, "EntityNotFoundException", "no such job"))
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == (f"http_{status}", True)
    assert verdict.message.endswith(": EntityNotFoundException: no such job")
    silent = aws_verdict(AwsError(status))
    assert isinstance(silent, Failure)
    assert ": " not in silent.message


@pytest.mark.parametrize("status", [302, 600])
def test_a_status_that_is_no_error_is_unreachable(status: int) -> None:
    verdict = aws_verdict(AwsError(status, "", "moved", 3.0))
    assert isinstance(verdict, Unreachable)
    assert (verdict.reason, verdict.retry_after) == (f"http_{status}", 3.0)
    assert verdict.message.endswith(": moved")


def test_a_long_message_is_truncated() -> None:
    verdict = aws_verdict(AwsError(400, "Invalid", "x" * 10_000))
    assert isinstance(verdict, Failure)
    assert len(verdict.message) == MESSAGE_LIMIT
