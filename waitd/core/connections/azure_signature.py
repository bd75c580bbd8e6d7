"""Azure Storage's Shared Key of 2009-09-19 and later: a request's signature by the account's own key."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from hmac import digest
from urllib.parse import parse_qsl, urlsplit

#: The version of the API that is asked for where a request names none.
API_VERSION = "2021-12-02"
#: The headers whose values are signed in this order, each on a line of its own, empty where the request has none.
_SIGNED = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)


@dataclass(frozen=True, slots=True)
class AzureSharedKey:
    """Whose requests are signed. `key` is the account's key, decoded."""

    account: str
    key: bytes = field(repr=False)

    def headers(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, *, now: float
    ) -> dict[str, str]:
        """What is sent beside `headers` to make this request a signed one; all as `aws_request_signature.Signer.headers` has it."""
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
    """What is signed, as Microsoft's "Authorize with Shared Key" has it. The names of `headers` are in lower case."""
    parts = urlsplit(url)
    own = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name.lower(), []).append(value)
    asked = [f"{name}:{','.join(sorted(query[name]))}" for name in sorted(query)]
    lines = [method, *(headers.get(name, "") for name in _SIGNED), *own]
    return "\n".join([*lines, f"/{account}{parts.path or '/'}", *asked])


def parse_shared_key(account: str, key: str) -> AzureSharedKey:
    """The signer of an account's requests. Raises ValueError where `key` is none; the message does not quote it."""
    try:
        return AzureSharedKey(account, b64decode(key, validate=True))
    except ValueError:  # binascii.Error is one; so is what is said of text that is not ASCII
        raise ValueError("an Azure Storage account's key is Base64 text, and this is none") from None
