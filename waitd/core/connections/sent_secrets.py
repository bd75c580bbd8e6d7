"""Says which parts of a request are secrets, for `waitd.core.connections.masking`."""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import unquote_plus

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.azure_signature import AzureSharedKey
from waitd.core.connections.masking import SecretMask

#: Names, of headers and of query parameters, whose values are secrets.
_SECRET_NAME = re.compile(
    r"auth(?!or)|token|secret|passw|pwd|cookie|credential|signature|jwt|access[-_]?key|api[-_]?key|private|^sig$|^sas$",
    re.IGNORECASE,
)
#: Query parameters that may be secrets: they are, if their values look like one.
_OTHER_SECRET_NAME = re.compile(r"^key$|^code$|session", re.IGNORECASE)
_LOOKS_SECRET = re.compile(r"[A-Za-z0-9_\-.~+/=]{16,}")
#: Headers that a connection sets to say what it wants, not who it is.
_PUBLIC_HEADER = re.compile(
    r"accept.*|content-.*|user-agent|cache-control|pragma|host|origin|referer|range|prefer|date|if-.*|.*-version"
    r"|x-amz-date|x-amz-content-sha256|x-ms-date|x-requested-with|idempotency-key",
    re.IGNORECASE,
)
#: Shorter values of other headers are words, such as the name of a tenant, which answers have, too.
_MIN_OTHER_VALUE = 8
_QUERY_PARAMETER = re.compile(r"[?&;]([^=&;#]+)=([^&#]*)")
_SIGNATURE = re.compile(r"(?:Signature=|SharedKey [^:]*:)(\S+)$")


def header_secrets(headers: Iterable[tuple[str, str]], *, of_connection: bool) -> Iterator[str]:
    """The secrets in request headers. Of a wait's own headers only some can be secrets."""
    for name, value in headers:
        if _PUBLIC_HEADER.fullmatch(name):
            continue
        if _SECRET_NAME.search(name):
            yield value
            yield from _parts(name, value)
        elif of_connection and len(value) >= _MIN_OTHER_VALUE:
            yield value
            if " " in value:
                yield from _parts(name, value)


def _parts(name: str, value: str) -> Iterator[str]:
    """The secrets in the value of a header: a token, a password, cookies."""
    if name.lower() == "cookie":
        for cookie in value.split(";"):
            yield cookie.partition("=")[2].strip().strip('"')
        return
    scheme, _, token = value.partition(" ")
    if token:
        yield token.strip()
        if scheme.lower() == "basic":
            yield _login_and_password(token)[1]


def _login_and_password(token: str) -> tuple[str, str]:
    try:
        login, _, password = b64decode(token).decode().partition(":")
    except ValueError:
        return "", ""
    return login, password


def user_names(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The user names of HTTP Basic."""
    for _, value in headers:
        if value[:6].lower() == "basic ":
            yield _login_and_password(value[6:])[0]


def query_secrets(url: str) -> tuple[str, ...]:
    """The secrets in the query of a URL, among them what signs the URL."""
    found: list[str] = []
    for name, value in _QUERY_PARAMETER.findall(url):
        decoded = unquote_plus(value)
        if _SECRET_NAME.search(name) or (
            _OTHER_SECRET_NAME.search(name) and _LOOKS_SECRET.fullmatch(decoded)
        ):
            found += [value, decoded]
            if "/" in decoded and "credential" in name.lower():  # of AWS and Google: the key, and its scope
                found.append(decoded.partition("/")[0])
    return tuple(found)


def signature_of(authorization: str | None) -> str | None:
    """The signature in an `Authorization` header that signs one request; None if there is none."""
    matched = None if authorization is None else _SIGNATURE.search(authorization)
    return None if matched is None else matched[1]


def authorization_mask(
    headers: Sequence[tuple[str, str]], signer: AwsSigner | AzureSharedKey | None
) -> SecretMask:
    """Masks what a connection sends over HTTP, apart from the signatures of single requests."""
    keys = signer.keys if isinstance(signer, AwsSigner) else None
    return SecretMask(
        [*header_secrets(headers, of_connection=True), *_key_secrets(keys)], user_names(headers)
    )


@lru_cache(maxsize=1024)
def keys_mask(keys: AwsKeys | None) -> SecretMask:
    """Masks what requests that are signed with an access key of AWS carry."""
    return SecretMask(_key_secrets(keys))


def _key_secrets(keys: AwsKeys | None) -> tuple[str, ...]:
    return () if keys is None else (keys.access_key_id, keys.session_token or "")


@lru_cache(maxsize=1024)
def password_mask(password: str | None) -> SecretMask:
    """Masks the password of a connection that does not speak HTTP."""
    return SecretMask([password or ""])
