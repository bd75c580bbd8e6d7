"""Turns error responses of AWS services into verdicts, by status and error code.

`aws_verdict` handles the errors that all services have in common, `s3_verdict` those of S3 and of
S3-compatible stores. A missing S3 key is not an error and is handled by the probe.
"""

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from waitd.core.http.answer import RETRYABLE_STATUSES, CredentialsRefused, status_phrase
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Unreachable, Verdict


class AwsError(NamedTuple):
    """An error response of an AWS service.

    Attributes:
        status: the HTTP status.
        code: the service's error code; "" if there is none, as in the response to a HEAD.
        message: the service's own message, or "". S3's is not used.
        retry_after: the parsed `Retry-After` header in seconds, or None.
    """

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None


class S3Operation(Enum):
    """The request that S3 refused."""

    HEAD = "HEAD"
    LIST = "LIST"
    TAGS = "TAGS"


#: Codes with which a service asks for a retry. Most protocols send throttling as a 400.
_BUSY = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "InternalError", "InternalFailure", "InternalServerError", "InternalServerException",
    "PriorRequestNotComplete", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled",
    "RequestThrottledException", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "ServiceUnavailableException", "SlowDown",
    "Throttled", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
    "TransactionInProgressException", "Unavailable",
})  # fmt: skip
_S3_BUSY = frozenset({"SlowDown", "SlowDownRead", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "OperationAborted"})  # fmt: skip
#: An expired token says nothing about the target: the next token may work.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_S3_EXPIRED = _EXPIRED | {"RequestExpired"}
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidToken"})  # fmt: skip
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"})  # fmt: skip
_DENIED = frozenset({
    "AccessDenied", "AccessDeniedException", "AuthFailure", "AuthorizationError", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "NotAuthorized", "NotAuthorizedException", "OptInRequired", "SubscriptionRequiredException",
    "UnauthorizedAccess", "UnauthorizedException", "UnauthorizedOperation",
})  # fmt: skip
_NO_BUCKET = ("no_such_bucket", "The bucket does not exist.")
#: S3's codes that end the wait unless other credentials help: (reason, message).
_S3_REFUSALS = {
    "NoSuchBucket": _NO_BUCKET,
    "InvalidAccessKeyId": ("invalid_access_key_id", "S3 does not know the access key id."),
    "SignatureDoesNotMatch": ("bad_signature", "The signature does not match: the secret access key is wrong."),
    "InvalidClientTokenId": ("invalid_access_key_id", "S3 does not know the access key id."),
    "InvalidToken": ("invalid_token", "The session token is not valid."),
}  # fmt: skip
_S3_DENIED = {
    S3Operation.HEAD: "Access denied. Without s3:ListBucket on the bucket, S3 denies access to a missing key as well: grant s3:ListBucket, and s3:GetObject for the key.",
    S3Operation.LIST: "Access denied. Listing keys requires s3:ListBucket on the bucket.",
    S3Operation.TAGS: "Access denied. Reading tags requires s3:GetObjectTagging for the key.",
}
_TOKEN_EXPIRED = Unreachable(
    "credentials_expired", "The session token has expired, and there is no newer one."
)


_CLOCK_SKEW = Unreachable("clock_skew", "The clock of AWS and the clock of this host differ too much.")


def aws_verdict(error: AwsError) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - one return per row of the table
    """The verdict of an AWS error; `CredentialsRefused` if other credentials may help.

    The service's own message is shown only where it cannot quote a signed request, because a signed
    request contains a session token.
    """
    status, code = error.status, error.code
    if code in _EXPIRED:
        return CredentialsRefused(_TOKEN_EXPIRED)
    if code == "RequestExpired":  # EC2 also says so of an expired token
        return CredentialsRefused(_CLOCK_SKEW)
    if code in _SKEWED:
        return _CLOCK_SKEW
    if code in _BUSY or _asks_again(status, error.retry_after):
        return Unreachable(f"http_{status}", _message(status, code), error.retry_after)
    if code in _UNKNOWN_KEY:
        return _refused("invalid_access_key_id", "AWS does not know the access key or the session token.")
    if code in _BAD_SIGNATURE:
        return _refused("bad_signature", "The signature does not match: the secret access key is wrong.")
    if code in _DENIED or status in {401, 403}:
        return _refused("access_denied", f"Access denied. {_message(status, code)}")
    message = f"{_message(status, code)}: {error.message}" if error.message else _message(status, code)
    if 400 <= status <= 499:
        return Failure(f"http_{status}", message[:MESSAGE_LIMIT], silenceable=True)
    return Unreachable(f"http_{status}", message[:MESSAGE_LIMIT], error.retry_after)


@lru_cache(maxsize=1024)
def s3_verdict(error: AwsError, operation: S3Operation) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - one return per row of the table
    """The verdict of an S3 error; `CredentialsRefused` if other credentials may help."""
    status, code, _, retry_after = error
    if code in _S3_EXPIRED:
        return CredentialsRefused(_TOKEN_EXPIRED)
    if code == "RequestTimeTooSkewed":
        return Unreachable("clock_skew", "The clock of S3 and the clock of this host differ too much.")
    if code in _S3_BUSY or _asks_again(status, retry_after):
        return Unreachable(f"http_{status}", _message(status, code), retry_after)
    if code in _S3_REFUSALS:
        return _refused(*_S3_REFUSALS[code])
    if status in {401, 403}:
        return _refused("access_denied", _S3_DENIED[operation])
    if status == 404:  # a LIST names a bucket and nothing else that could be missing
        return _refused(*_NO_BUCKET)
    if 400 <= status <= 499:
        return Failure(f"http_{status}", _message(status, code), silenceable=True)
    return Unreachable(f"http_{status}", _message(status, code), retry_after)


def _asks_again(status: int, retry_after: float | None) -> bool:
    if 400 <= status <= 499:
        return status in RETRYABLE_STATUSES or (status != 401 and retry_after is not None)
    return 500 <= status <= 599


def _refused(reason: str, message: str) -> CredentialsRefused:
    return CredentialsRefused(Failure(reason, message[:MESSAGE_LIMIT], silenceable=True))


def _message(status: int, code: str) -> str:
    return f"{status_phrase(status)}: {code}" if code else status_phrase(status)
