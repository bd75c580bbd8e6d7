"""Shared Key signatures of Azure Storage, in the version of 2009-09-19 and later.

The rules are Microsoft's "Authorize with Shared Key".
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from hmac import digest
from urllib.parse import parse_qsl, urlsplit

#: The API version (`x-ms-version`) of a request that names none.
API_VERSION = "2021-12-02"
#: Headers whose values are signed in this order, one per line; the line is empty if a header is
#: missing.
_SIGNED = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)


@dataclass(frozen=True, slots=True)
class AzureSharedKey:
    """Signs requests to one storage account. `key` is the account's key, decoded from base64."""

    account: str
    key: bytes = field(repr=False)

    def headers(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, *, now: float
    ) -> dict[str, str]:
        """The headers that sign a request; the arguments are those of `AwsSigner.headers`."""
        own = {"x-ms-date": formatdate(now, usegmt=True)}
        sent = {name.lower(): value.strip() for name, value in (headers or {}).items()}
        if "x-ms-version" not in sent:
            own["x-ms-version"] = API_VERSION
        sent |= own
        if body:
            sent["content-length"] = str(len(body))
        text = string_to_sign(self.account, method, url, sent)
        signature = b64encode(digest(self.key, text.encode(), sha256)).decode()
        return {**own, "Authorization": f"SharedKey {self.account}:{signature}"}


def string_to_sign(account: str, method: str, url: str, headers: Mapping[str, str]) -> str:
    """The text that is signed. The names in `headers` are in lower case."""
    parts = urlsplit(url)
    own = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name.lower(), []).append(value)
    parameters = [f"{name}:{','.join(sorted(query[name]))}" for name in sorted(query)]
    lines = [method, *(headers.get(name, "") for name in _SIGNED), *own]
    return "\n".join([*lines, f"/{account}{parts.path or '/'}", *parameters])


def parse_shared_key(account: str, key: str) -> AzureSharedKey:
    """The signer of an account's requests.

    Raises:
        ValueError: `key` is not base64. The message does not quote it.
    """
    try:
        return AzureSharedKey(account, b64decode(key, validate=True))
    except ValueError:  # also binascii.Error, and text that is not ASCII
        raise ValueError("the key of the Azure Storage account is not base64") from None
