"""What an error of an AWS service means, where whoever asked expects none of its kind: the table from status and error code to a verdict.

Codes differ from service to service, and between protocols of one service; these are the common errors of all of them. What S3 says of keys
and buckets is `s3_answer`'s.
"""

from typing import NamedTuple

from waitd.core.http.answer import RETRYABLE_STATUSES, CredentialsRefused, status_phrase
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Unreachable, Verdict


class AwsError(NamedTuple):
    """An error as a service answers it.

    Attributes:
        status: of the HTTP answer.
        code: the service's error code, or "".
        message: its own words, or "".
        retry_after: seconds that the service asked to be left alone, or None.
    """

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None


#: The service says itself that another time may be better. Throttling is a 400 in most protocols.
_BUSY = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "InternalError", "InternalFailure", "InternalServerError", "InternalServerException",
    "PriorRequestNotComplete", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled",
    "RequestThrottledException", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "ServiceUnavailableException", "SlowDown",
    "Throttled", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
    "TransactionInProgressException", "Unavailable",
})  # fmt: skip
#: It says nothing of the target: the next token may be good.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidToken"})  # fmt: skip
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"})  # fmt: skip
_DENIED = frozenset({
    "AccessDenied", "AccessDeniedException", "AuthFailure", "AuthorizationError", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "NotAuthorized", "NotAuthorizedException", "OptInRequired", "SubscriptionRequiredException",
    "UnauthorizedAccess", "UnauthorizedException", "UnauthorizedOperation",
})  # fmt: skip


def aws_verdict(error: AwsError) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - a row of the table each
    """What an error comes to; `CredentialsRefused` where other credentials may change it.

    The service's own words are shown only where they cannot quote a signed request, which holds a session token.
    """
    status, code = error.status, error.code
    if code in _EXPIRED:
        return Unreachable("credentials_expired", "The session token has expired, and there is no newer one.")
    if code in _SKEWED:
        return Unreachable("clock_skew", "The clock of AWS and that of this host differ too much.")
    if code in _BUSY or status in RETRYABLE_STATUSES or 500 <= status <= 599:
        return Unreachable(_reason(status), _message(status, code), error.retry_after)
    if code in _UNKNOWN_KEY:
        return _refused("invalid_access_key_id", "AWS does not know the access key or the session token.")
    if code in _BAD_SIGNATURE:
        return _refused("bad_signature", "The signature does not match: the secret access key is wrong.")
    if code in _DENIED or status in {401, 403}:
        return _refused("access_denied", f"Access denied. {_message(status, code)}")
    message = f"{_message(status, code)}: {error.message}" if error.message else _message(status, code)
    if 400 <= status <= 499:
        return Failure(_reason(status), message[:MESSAGE_LIMIT], silenceable=True)
    return Unreachable(_reason(status), message[:MESSAGE_LIMIT], error.retry_after)


def _refused(reason: str, message: str) -> CredentialsRefused:
    return CredentialsRefused(Failure(reason, message[:MESSAGE_LIMIT], silenceable=True))


def _reason(status: int) -> str:
    return f"http_{status}"


def _message(status: int, code: str) -> str:
    return f"{status_phrase(status)}: {code}" if code else status_phrase(status)
