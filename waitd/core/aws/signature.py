"""AWS Signature Version 4 of requests without a body, as S3 wants it; `aws_request_signature` has it for everybody else.

The signing key, which takes four HMACs, is kept for its day, and the beginning of the HMAC for its second; a signature then costs two hashes.
"""

import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
#: SHA-256 of no bytes.
_NO_BODY = sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """What AWS knows a caller by. `repr` and `str` show neither secret nor token."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def encoded_path(path: str) -> str:
    """A path as it is requested and signed: percent-encoded once, its slashes and dots left as they are."""
    return quote(path, safe="/-_.~")


def encoded_query(parameters: dict[str, str]) -> str:
    """A query as it is requested and signed: sorted by name, percent-encoded."""
    return "&".join(
        f"{quote(name, safe='')}={quote(parameters[name], safe='')}" for name in sorted(parameters)
    )


class S3Signer:
    """Signs requests to one host of S3 in one region, for one caller. What a second's requests have in common is made once."""

    def __init__(self, keys: AwsKeys, region: str, host: str) -> None:
        """`host` is the `Host` header as it will be sent."""
        self._keys = keys
        self._region = region
        self._host = host
        self._second: int | None = None

    def headers(self, method: str, path: str, query: str, *, now: float) -> dict[str, str]:
        """The headers that make a request a signed one.

        Args:
            method: GET or HEAD.
            path: see `encoded_path`.
            query: see `encoded_query`; "" for none.
            now: Unix seconds.
        """
        second = int(now)
        if second != self._second:
            self._begin(second)
        canonical = f"{method}\n{path}\n{query}\n{self._signed}"
        # A copy is half as dear as `hmac.digest`, which also lets go of the interpreter each time: where another thread waits for that,
        # it takes far longer to get it back than to sign.
        signature = self._begun.copy()
        signature.update(sha256(canonical.encode()).hexdigest().encode())
        return {"Authorization": f"{self._credential}{signature.hexdigest()}", **self._beside}

    def _begin(self, second: int) -> None:
        """Makes what the requests of this second have in common."""
        keys, moment = self._keys, amz_date(second)
        names = "host;x-amz-content-sha256;x-amz-date"
        lines = f"host:{self._host}\nx-amz-content-sha256:{_NO_BODY}\nx-amz-date:{moment}\n"
        self._beside = {"X-Amz-Content-SHA256": _NO_BODY, "X-Amz-Date": moment}
        if keys.session_token is not None:
            names += ";x-amz-security-token"
            lines += f"x-amz-security-token:{keys.session_token}\n"
            self._beside["X-Amz-Security-Token"] = keys.session_token
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        key = signing_key(keys.secret_access_key, moment[:8], self._region, "s3")
        self._signed = f"{lines}\n{names}\n{_NO_BODY}"
        self._begun = hmac.new(key, f"{ALGORITHM}\n{moment}\n{scope}\n".encode(), sha256)
        self._credential = (
            f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature="
        )
        self._second = second


@lru_cache(maxsize=8)  # the same second, and one beside it
def amz_date(seconds: int) -> str:
    """Unix seconds as a signature writes them: 20261121T024107Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that signs one day's requests to one service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), sha256)
    return key
