"""AWS Signature Version 4 (AWS's "Create a signed AWS API request").

`AwsSigner` signs any request to any service. `S3Signer` signs requests without a body to one S3
host and is cheaper: it keeps the signing key, which takes four HMACs, for a day and the start of
the HMAC for a second, so that one signature costs two hashes.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
_S3 = "s3"
#: SHA-256 of an empty body.
_NO_BODY = sha256().hexdigest()
_SPACES = re.compile(r" +")
_SLASHES = re.compile(r"/+")
#: Headers that are signed, if present, besides all `x-amz-*`.
_SIGNED = frozenset({"content-type"})


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An access key of AWS. `repr` and `str` hide the secret and the token."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class AwsSigner(NamedTuple):
    """Signs requests to one service in one region with one access key."""

    service: str
    region: str
    keys: AwsKeys

    def headers(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, *, now: float
    ) -> dict[str, str]:
        """The headers that sign a request; they are sent in addition to `headers`.

        Args:
            method: the HTTP method.
            url: the URL as it is sent; the signed `Host` header is taken from it.
            headers: the request's other headers as they are sent.
            body: the body as it is sent.
            now: Unix seconds.
        """
        parts = urlsplit(url)
        moment = amz_date(int(now))
        payload = sha256(body or b"").hexdigest()
        own = {"X-Amz-Date": moment}
        if self.keys.session_token is not None:
            own["X-Amz-Security-Token"] = self.keys.session_token
        if self.service == _S3:
            own["X-Amz-Content-SHA256"] = payload
        signed = {"host": _host(parts.netloc, parts.scheme)}
        for name, value in (*(headers or {}).items(), *own.items()):
            lower = name.lower()
            if lower.startswith("x-amz-") or lower in _SIGNED:
                signed[lower] = _SPACES.sub(" ", value.strip())
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{self._path(parts.path)}\n{_query(parts.query)}\n{lines}\n{names}\n{payload}"
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = signing_key(self.keys.secret_access_key, moment[:8], self.region, self.service)
        own["Authorization"] = (
            f"{ALGORITHM} Credential={self.keys.access_key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={hmac.digest(key, text.encode(), sha256).hex()}"
        )
        return own

    def _path(self, path: str) -> str:
        """The canonical path. For S3 alone it is the path as sent: every slash of a key counts."""
        return path or "/" if self.service == _S3 else quote(_SLASHES.sub("/", path) or "/", safe="/-_.~")


def _host(netloc: str, scheme: str) -> str:
    """The `Host` header as HTTP clients send it: without the scheme's default port."""
    return netloc.removesuffix({"http": ":80", "https": ":443"}.get(scheme, " ")).lower()


def _query(query: str) -> str:
    if not query:
        return ""
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(
        f"{name}={value}"
        for name, value in sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in pairs)
    )


def encoded_path(path: str) -> str:
    """A path as S3 requests send and sign it: percent-encoded once; slashes and dots are kept."""
    return quote(path, safe="/-_.~")


def encoded_query(parameters: dict[str, str]) -> str:
    """A query as S3 requests send and sign it: percent-encoded and sorted by name."""
    return "&".join(
        f"{quote(name, safe='')}={quote(parameters[name], safe='')}" for name in sorted(parameters)
    )


class S3Signer:
    """Signs GET and HEAD requests to one S3 host; requests of one second share most of the work."""

    def __init__(
        self, keys: AwsKeys, region: str, host: str, extra_headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """`host` is the `Host` header as it will be sent, `extra_headers` more `X-Amz-` headers."""
        self._extra_headers = extra_headers
        self._keys = keys
        self._region = region
        self._host = host
        self._second: int | None = None

    def headers(self, method: str, path: str, query: str, *, now: float) -> dict[str, str]:
        """The headers that sign a request.

        Args:
            method: GET or HEAD.
            path: as `encoded_path` returns it.
            query: as `encoded_query` returns it; "" for none.
            now: Unix seconds.
        """
        second = int(now)
        if second != self._second:
            self._start_second(second)
        canonical = f"{method}\n{path}\n{query}\n{self._signed}"
        # Copying the started HMAC costs half of `hmac.digest`. That function also releases the GIL,
        # and with another busy thread, getting it back takes far longer than signing.
        signature = self._started_hmac.copy()
        signature.update(sha256(canonical.encode()).hexdigest().encode())
        return {"Authorization": f"{self._credential}{signature.hexdigest()}", **self._headers}

    def _start_second(self, second: int) -> None:
        """Computes what all requests of this second share."""
        keys, moment = self._keys, amz_date(second)
        self._headers = {"X-Amz-Content-SHA256": _NO_BODY, "X-Amz-Date": moment, **dict(self._extra_headers)}
        if keys.session_token is not None:
            self._headers["X-Amz-Security-Token"] = keys.session_token
        signed = {"host": self._host, **{name.lower(): value for name, value in self._headers.items()}}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        scope = f"{moment[:8]}/{self._region}/{_S3}/aws4_request"
        key = signing_key(keys.secret_access_key, moment[:8], self._region, _S3)
        self._signed = f"{lines}\n{names}\n{_NO_BODY}"
        self._started_hmac = hmac.new(key, f"{ALGORITHM}\n{moment}\n{scope}\n".encode(), sha256)
        self._credential = (
            f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature="
        )
        self._second = second


@lru_cache(maxsize=8)  # the current second and its neighbours
def amz_date(seconds: int) -> str:
    """Unix seconds as an `X-Amz-Date` header: 20261121T024107Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that signs one day's requests to one service; `day` is YYYYMMDD."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), sha256)
    return key
