"""AWS Signature Version 4 of any request to any service; `aws_signature` has a cheaper way for what S3 is asked all the time."""

import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from waitd.core.aws.signature import ALGORITHM, AwsKeys, amz_date, signing_key

#: What signs differently.
_S3 = "s3"
_SPACES = re.compile(r" +")
_SLASHES = re.compile(r"/+")
#: Headers that are signed beside all `x-amz-*`, where the request has them.
_SIGNED = frozenset({"content-type"})


class AwsSigner(NamedTuple):
    """Whose requests are signed, and where they go."""

    service: str
    region: str
    keys: AwsKeys

    def headers(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, *, now: float
    ) -> dict[str, str]:
        """What is sent beside `headers` to make this request a signed one.

        `url` and `headers` are as they are sent; the `Host` header is taken from `url`. `now`: Unix seconds.
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
            f"SignedHeaders={names}, Signature={digest(key, text.encode(), sha256).hex()}"
        )
        return own

    def _path(self, path: str) -> str:
        """S3 alone takes a path as it is sent: every slash of a key counts, and nothing is encoded twice."""
        return path or "/" if self.service == _S3 else quote(_SLASHES.sub("/", path) or "/", safe="/-_.~")


def _host(netloc: str, scheme: str) -> str:
    """As HTTP clients send it: without the scheme's own port."""
    return netloc.removesuffix({"http": ":80", "https": ":443"}.get(scheme, " ")).lower()


def _query(query: str) -> str:
    if not query:
        return ""
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(
        f"{name}={value}"
        for name, value in sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in pairs)
    )
