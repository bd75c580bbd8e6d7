"""What an answer of S3 that is no success means: the table from status and error code to a verdict.

Codes are S3's own, and those that S3-compatible stores have in common with it. That a key is not there is no error and never comes here.
"""

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from waitd.core.http.answer import RETRYABLE_STATUSES, CredentialsRefused, status_phrase
from waitd.core.waits.verdict import Failure, Unreachable, Verdict


class S3Operation(Enum):
    """What was asked: the object's head, or a list of keys."""

    HEAD = "HEAD"
    LIST = "LIST"


class S3Error(NamedTuple):
    """An answer that is neither a key nor a list.

    Attributes:
        status: of the HTTP answer.
        code: S3's error code, or "" where the answer has none (that to a HEAD has no body).
        retry_after: seconds that the server asked to be left alone, or None.
    """

    status: int
    code: str = ""
    retry_after: float | None = None


#: The store says itself that another time may be better.
_BUSY = frozenset({"SlowDown", "SlowDownRead", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "OperationAborted"})  # fmt: skip
#: It says nothing of the target: the next token may be good.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})

_WORDS = {
    "NoSuchBucket": ("no_such_bucket", "The bucket does not exist."),
    "InvalidAccessKeyId": ("invalid_access_key_id", "S3 does not know the access key id."),
    "SignatureDoesNotMatch": ("bad_signature", "The signature does not match: the secret access key is wrong."),
    "InvalidToken": ("invalid_token", "The session token is not valid."),
}  # fmt: skip
_DENIED = {
    S3Operation.HEAD: "Access denied. Without s3:ListBucket on the bucket S3 answers so for a missing key, too: grant s3:ListBucket, and s3:GetObject for the key.",
    S3Operation.LIST: "Access denied. To list keys takes s3:ListBucket on the bucket.",
}


@lru_cache(maxsize=1024)
def s3_verdict(refusal: S3Error, asked: S3Operation) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - a row of the table each
    """What a refusal comes to; `CredentialsRefused` where other credentials may change it."""
    status, code, retry_after = refusal
    if code in _EXPIRED:
        return Unreachable("credentials_expired", "The session token has expired, and there is no newer one.")
    if code == "RequestTimeTooSkewed":
        return Unreachable("clock_skew", "S3's clock and this host's differ too much.")
    if code in _BUSY or status in RETRYABLE_STATUSES or 500 <= status <= 599:
        return Unreachable(_reason(status), _message(status, code), retry_after)
    if code in _WORDS:
        return CredentialsRefused(Failure(*_WORDS[code], silenceable=True))
    if status in {401, 403}:
        return CredentialsRefused(Failure("access_denied", _DENIED[asked], silenceable=True))
    if status == 404:  # a LIST always names a bucket, and nothing else that could be missing
        return CredentialsRefused(Failure(*_WORDS["NoSuchBucket"], silenceable=True))
    if 400 <= status <= 499:
        return Failure(_reason(status), _message(status, code), silenceable=True)
    return Unreachable(_reason(status), _message(status, code), retry_after)


def _reason(status: int) -> str:
    return f"http_{status}"


def _message(status: int, code: str) -> str:
    return f"{status_phrase(status)}: {code}" if code else status_phrase(status)
