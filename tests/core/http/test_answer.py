"""The verdict of an HTTP response: the first matching row of the table wins."""

import pytest

from waitd.core.http.answer import (
    UNDECIDED,
    AnswerFacts,
    CredentialsRefused,
    Decision,
    Evaluation,
    condition_applies,
    http_verdict,
    refuses_credentials,
    says_rate_limit,
    status_phrase,
)
from waitd.core.http.headers import LONGEST_RETRY_AFTER, parse_retry_after
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict

OTHER_ORIGIN = "https://login.example"


def verdict_of(
    status: int, evaluation: Evaluation = UNDECIDED, *allowlist: int, **facts: object
) -> Verdict | CredentialsRefused:
    return http_verdict(AnswerFacts(status, **facts), evaluation, frozenset(allowlist))  # type: ignore[arg-type]


def test_a_true_condition_takes_precedence() -> None:
    for status in (200, 302, 401, 404, 503):
        for decision, kind in ((Decision.SUCCESS, Success), (Decision.FAILURE, Failure)):
            verdict = verdict_of(
                status,
                Evaluation(decision, payload=7),
                status,
                redirect_origin=OTHER_ORIGIN,
                redirect_loop=True,
            )
            assert isinstance(verdict, kind)
            assert verdict.payload == 7


def test_a_failure_by_condition_cannot_be_silenced() -> None:
    verdict = verdict_of(200, Evaluation(Decision.FAILURE))
    assert isinstance(verdict, Failure)
    assert not verdict.silenceable


def test_an_omitted_result_is_the_reason_of_the_outcome() -> None:
    for decision in Decision:
        verdict = verdict_of(200, Evaluation(decision, payload_omitted=True))
        assert not isinstance(verdict, CredentialsRefused)
        assert verdict.reason == "result_omitted"


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 503])
def test_the_allowlist_takes_precedence_over_the_status(status: int) -> None:
    verdict = verdict_of(status, UNDECIDED, status, redirect_origin=OTHER_ORIGIN, redirect_loop=True)
    assert isinstance(verdict, Pending)
    assert verdict.reason == f"http_{status}"


def test_every_status_has_its_row() -> None:
    for status in range(100, 1000):
        verdict = verdict_of(status)
        if status in {408, 425, 429} or 500 <= status <= 599 or 300 <= status <= 399:
            assert isinstance(verdict, Unreachable), status
        elif status in {401, 403}:
            assert isinstance(verdict, CredentialsRefused)
            assert verdict.repeat_unchanged is (status == 401)
        elif 400 <= status <= 499:
            assert isinstance(verdict, Failure), status
            assert verdict.silenceable
        else:
            assert isinstance(verdict, Pending), status


def test_a_redirect_to_another_origin_is_a_refusal_and_a_loop_is_unreachable() -> None:
    redirected = verdict_of(302, redirect_origin=OTHER_ORIGIN)
    assert isinstance(redirected, CredentialsRefused)
    assert OTHER_ORIGIN in redirected.verdict.message
    loop = verdict_of(302, redirect_loop=True)
    assert isinstance(loop, Unreachable)
    assert loop.reason == "redirect_loop"


def test_a_403_that_says_when_to_ask_again_is_a_rate_limit() -> None:
    assert verdict_of(403, retry_after=30.0) == Unreachable("http_403", "HTTP 403 Forbidden", 30.0)


@pytest.mark.parametrize(
    ("status", "content", "refused"),
    [
        (401, None, True),
        (403, None, True),
        (400, None, False),
        (400, b'{"message": "bad field"}', False),
        (400, b'{"__type": "com.amazon#ExpiredTokenException"}', True),
        (400, b'{"__type":"UnrecognizedClientException","message":"x"}', True),
        (404, b'{"__type": "ExpiredTokenException"}', False),
    ],
)
def test_an_answer_may_refuse_the_credentials(status: int, content: bytes | None, refused: bool) -> None:
    assert refuses_credentials(status, content) is refused


RATE_LIMITS = {
    "Google's reason": b'{"error": {"code": 403, "errors": [{"reason": "userRateLimitExceeded"}]}}',
    "Google's quota": b'{"error": {"errors": [{"domain": "usageLimits", "reason": "quotaExceeded"}]}}',
    "Google's status": b'{"error": {"details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}',
    "GitHub's secondary limit": b'{"message": "You have exceeded a secondary rate limit. Please wait"}',
    "Salesforce's code": b'[{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]',
    "AWS's code": b'{"__type": "com.amazon#ThrottlingException"}',
    "a page": b"<h1>403: Too Many Requests</h1>",
    "a sentence": b"The rate limit has been exceeded for this key.",
    "a gateway": b'{"message": "API rate limit reached"}',
    "a library's": b'{"detail": "Request was throttled. Expected available in 30 seconds."}',
}


@pytest.mark.parametrize("name", RATE_LIMITS)
def test_a_403_may_say_in_its_body_that_it_is_a_rate_limit(name: str) -> None:
    assert says_rate_limit(403, RATE_LIMITS[name])
    assert says_rate_limit(400, RATE_LIMITS[name]) is name.startswith("AWS")
    assert not says_rate_limit(404, RATE_LIMITS[name])


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b'{"message": "Forbidden"}',
        b"your plan has no limit on users",
        b"Storage limit exceeded",
        b"<script>window.onscroll = _.throttle(f)</script>",
        b'{"message": "Bad credentials", "documentation_url": "https://vendor.example/docs/rate-limits"}',
        b'{"error": "token expired", "message": "or the rate limit is exceeded", "x": "quotaExceeded"}',
    ],
)
def test_other_403s_are_refusals(body: bytes | None) -> None:
    assert not says_rate_limit(403, body)


def test_equal_responses_share_one_verdict() -> None:
    for status in (200, 202, 401, 403, 503):
        assert verdict_of(status) is verdict_of(status)
    assert verdict_of(404, UNDECIDED, 404) is verdict_of(404, UNDECIDED, 404)


def test_a_pending_message_is_truncated() -> None:
    verdict = verdict_of(200, Evaluation(message="x" * 1000))
    assert isinstance(verdict, Pending)
    assert len(verdict.message) == MESSAGE_LIMIT


def test_a_condition_without_status_applies_to_a_2xx_only() -> None:
    assert [
        status
        for status in (100, 199, 200, 299, 300, 404, 500)
        if condition_applies(status, names_status=False)
    ] == [200, 299]
    assert all(condition_applies(status, names_status=True) for status in (100, 302, 404, 500))


def test_a_status_has_its_standard_phrase_if_there_is_one() -> None:
    assert status_phrase(404) == "HTTP 404 Not Found"
    assert status_phrase(799) == "HTTP 799"


DATE = "Fri, 31 Dec 1999 23:59:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, None, None),
        ("7", None, 7.0),
        (" 7 ", None, 7.0),
        ("9" * 400, None, LONGEST_RETRY_AFTER),
        ("-7", None, None),
        ("7.5", None, 7.5),
        ("3.0", None, 3.0),
        ("1e3", None, None),
        ("\u0667", None, None),
        ("soon", None, None),
        ("+5", None, 5.0),
        ("5s", None, 5.0),
        ("5 Seconds", None, 5.0),
        ("5, 120", None, 5.0),
        ("5 apples", None, None),
        ("-0.5", None, None),
        ("", None, None),
        ("4000000000", None, LONGEST_RETRY_AFTER),
        ("4000000000000", None, LONGEST_RETRY_AFTER),
        ("1970-01-01T00:01:40Z", None, 60.0),
        ("1970-01-01T01:01:40+01:00", None, 60.0),
        ("1970-01-01 00:01:40", None, 60.0),
        ("1970-13-41", None, None),
        ("Thursday, 01-Jan-70 00:01:40 GMT", None, 60.0),
        ("Thu Jan  1 00:01:40 1970", None, 60.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", DATE, 59.0),
        ("Fri, 31 Dec 1999 23:58:59 GMT", DATE, 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", None, 60.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "garbage", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DATE, LONGEST_RETRY_AFTER),
    ],
)
def test_retry_after_is_parsed_in_both_forms(
    value: str | None, date: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, 40.0, date) == seconds
