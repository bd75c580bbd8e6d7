"""AWS Signature Version 4 of requests without a body, as S3 wants it; `aws_request_signature` has it for everybody else.

The signing key, which takes four HMACs, is kept for its day; a signature then costs two hashes.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from hmac import digest
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


def signed_headers(
    method: str, host: str, path: str, query: str, *, keys: AwsKeys, region: str, now: float
) -> dict[str, str]:
    """The headers that make a request to S3 a signed one.

    Args:
        method: GET or HEAD.
        host: the `Host` header as it will be sent.
        path: see `encoded_path`.
        query: see `encoded_query`; "" for none.
        keys: whose request it is.
        region: the region of the credential scope.
        now: Unix seconds.
    """
    moment = moment_of(int(now))
    token = keys.session_token
    names = "host;x-amz-content-sha256;x-amz-date"
    lines = f"host:{host}\nx-amz-content-sha256:{_NO_BODY}\nx-amz-date:{moment}\n"
    if token is not None:
        names += ";x-amz-security-token"
        lines += f"x-amz-security-token:{token}\n"
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"{ALGORITHM}\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    signature = digest(
        signing_key(keys.secret_access_key, moment[:8], region, "s3"), text.encode(), sha256
    ).hex()
    headers = {
        "Authorization": f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}",
        "X-Amz-Content-SHA256": _NO_BODY,
        "X-Amz-Date": moment,
    }
    if token is not None:
        headers["X-Amz-Security-Token"] = token
    return headers


@lru_cache(maxsize=8)  # the same second, and one beside it
def moment_of(seconds: int) -> str:
    """Unix seconds as a signature writes them: 20261121T024107Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that signs one day's requests to one service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = digest(key, part.encode(), sha256)
    return key
