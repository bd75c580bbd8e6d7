"""What an error of an AWS service comes to, row by row."""

import pytest

from waitd.core.aws.answers import AwsError, aws_verdict
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Unreachable


@pytest.mark.parametrize(
    "error",
    [
        AwsError(400, "ThrottlingException", "Rate exceeded", 7.0),
        AwsError(429, "", "", 7.0),
        AwsError(408, "RequestTimeout", "", 7.0),
        AwsError(503, "", "", 7.0),
        AwsError(500, "InternalFailure", "", 7.0),
        AwsError(599, "Unheard", "", 7.0),
        AwsError(403, "RequestLimitExceeded", "", 7.0),
    ],
)
def test_a_busy_or_broken_service_is_retried_after_its_retry_after(error: AwsError) -> None:
    seen = aws_verdict(error)
    assert isinstance(seen, Unreachable)
    assert (seen.reason, seen.retry_after) == (f"http_{error.status}", 7.0)
    assert seen.message.endswith(f": {error.code}") is bool(error.code)
    assert "Rate exceeded" not in seen.message


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (
            "ExpiredTokenException",
            "credentials_expired",
            "The session token has expired, and there is no newer one.",
        ),
        ("RequestExpired", "clock_skew", "The clock of AWS and the clock of this host differ too much."),
    ],
)
def test_an_expired_token_and_a_wrong_clock_end_nothing(code: str, reason: str, words: str) -> None:
    assert aws_verdict(AwsError(403, code)) == Unreachable(reason, words)


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (AwsError(400, "UnrecognizedClientException", "planted"), "invalid_access_key_id", "AWS does not know the access key or the session token."),
        (AwsError(403, "SignatureDoesNotMatch", "planted"), "bad_signature", "The signature does not match: the secret access key is wrong."),
        (AwsError(400, "AccessDeniedException", "planted"), "access_denied", "Access denied. HTTP 400 Bad Request: AccessDeniedException"),
        (AwsError(401, "", "planted"), "access_denied", "Access denied. HTTP 401 Unauthorized"),
        (AwsError(403, "Unheard", "planted"), "access_denied", "Access denied. HTTP 403 Forbidden: Unheard"),
    ],
)  # fmt: skip
def test_a_refusal_may_be_changed_by_other_credentials_and_is_not_quoted(
    error: AwsError, reason: str, words: str
) -> None:
    assert aws_verdict(error) == CredentialsRefused(Failure(reason, words, silenceable=True))


@pytest.mark.parametrize("status", [400, 404, 499])
def test_any_other_error_of_the_caller_fails_the_wait_in_the_services_words(status: int) -> None:
    seen = aws_verdict(AwsError(status, "EntityNotFoundException", "no such job"))
    assert isinstance(seen, Failure)
    assert (seen.reason, seen.silenceable) == (f"http_{status}", True)
    assert seen.message.endswith(": EntityNotFoundException: no such job")
    mute = aws_verdict(AwsError(status))
    assert isinstance(mute, Failure)
    assert ": " not in mute.message


@pytest.mark.parametrize("status", [302, 600])
def test_a_status_that_is_no_error_ends_nothing(status: int) -> None:
    seen = aws_verdict(AwsError(status, "", "moved", 3.0))
    assert isinstance(seen, Unreachable)
    assert (seen.reason, seen.retry_after) == (f"http_{status}", 3.0)
    assert seen.message.endswith(": moved")


def test_long_words_are_cut() -> None:
    seen = aws_verdict(AwsError(400, "Invalid", "x" * 10_000))
    assert isinstance(seen, Failure)
    assert len(seen.message) == MESSAGE_LIMIT
