"""Says which parts of a request are secrets, for `waitd.core.connections.masking`."""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from urllib.parse import parse_qsl, unquote_plus

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.azure_signature import AzureSharedKey
from waitd.core.connections.connection import Connection
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.proxies import Proxies, proxy_secrets
from waitd.core.connections.token_requests import TokenRequest

#: Names, of headers and of query parameters, whose values are secrets.
_SECRET_NAME = re.compile(
    r"auth(?!or)|token|secret|passw|pwd|cookie|credential|signature|jwt|access[-_]?key|api[-_]?key|private|^sig$|^sas$",
    re.IGNORECASE,
)
#: Fields of JSON whose values are secrets; others, such as `tokenType`, are about secrets.
_SECRET_FIELD = re.compile(
    r"(?:token|secret|passwd|password|passphrase|pwd|cookie|credentials?|signature|jwt|authorization"
    r"|(?:access|api|private|account|shared)[-_.]?key|access[-_.]?key[-_.]?id)$",
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
            login, password = _login_and_password(token)
            yield password or login  # some APIs take their key as the login, without a password


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


def body_secrets(body: bytes | None) -> tuple[str, ...]:
    """The secrets in a body of JSON or a form that a wait sends."""
    if not body:
        return ()
    try:
        return tuple(field_secrets(json.loads(body)))
    except (ValueError, RecursionError):
        fields = parse_qsl(body.decode("utf-8", "replace"))
        return tuple(value for name, value in fields if _SECRET_FIELD.search(name))


def field_secrets(value: object, *, secret: bool = False) -> Iterator[str]:
    """The strings below fields whose names say that they are secrets.

    Args:
        value: JSON, or the fields of a connection or a query.
        secret: whether its own name says so.
    """
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from field_secrets(each, secret=secret or bool(_SECRET_FIELD.search(str(name))))
    elif isinstance(value, list):
        for each in value:
            yield from field_secrets(each, secret=secret)
    elif secret and isinstance(value, str):
        yield value


def grant_secrets(grant: TokenRequest) -> tuple[str, ...]:
    """The secrets in a request for a token."""
    password = () if grant.basic_auth is None else grant.basic_auth[1:]
    return (*password, *field_secrets(dict(grant.fields)))


def signature_of(authorization: str | None) -> str | None:
    """The signature in an `Authorization` header that signs one request; None if there is none."""
    matched = None if authorization is None else _SIGNATURE.search(authorization)
    return None if matched is None else matched[1]


def authorization_mask(
    headers: Sequence[tuple[str, str]],
    signer: AwsSigner | AzureSharedKey | None,
    grant_secrets: Sequence[str] = (),
) -> SecretMask:
    """Masks what a connection sends over HTTP, apart from the signatures of single requests."""
    keys = signer.keys if isinstance(signer, AwsSigner) else None
    secrets = [*header_secrets(headers, of_connection=True), *_key_secrets(keys), *grant_secrets]
    return SecretMask(secrets, user_names(headers))


@lru_cache(maxsize=1024)
def keys_mask(keys: AwsKeys | None, *proxies: Proxies) -> SecretMask:
    """Masks what requests carry that are signed with an access key of AWS, also to `proxies`."""
    return SecretMask((*_key_secrets(keys), *chain.from_iterable(map(proxy_secrets, proxies))))


def _key_secrets(keys: AwsKeys | None) -> tuple[str, ...]:
    if keys is None:
        return ()
    token = keys.session_token or ""
    dumped = token.encode().hex(" ")  # in `CanonicalRequestBytes` of an error of S3
    return keys.access_key_id, token, dumped


@lru_cache(maxsize=1024)
def plain_mask(*secrets: str) -> SecretMask:
    """Masks these secrets, such as the password of a connection that does not speak HTTP."""
    return SecretMask(secrets)


def connection_mask(connection: Connection) -> SecretMask:
    """Masks whatever a connection has that is a secret, or an access key of AWS."""
    key_id = connection.login if connection.conn_type == "aws" else None
    return plain_mask(connection.password or "", key_id or "", *field_secrets(connection.extra))


def mask_with_query(mask: SecretMask | None, url: str) -> SecretMask | None:
    """Adds the secrets in the query of a URL to a mask."""
    secrets = query_secrets(url)
    return _joined(mask, secrets) if secrets else mask


def mask_with_cookies(mask: SecretMask | None, cookies: str) -> SecretMask:
    """Adds the cookies of one request to a mask."""
    added = SecretMask(header_secrets([("Cookie", cookies)], of_connection=False))
    return added if mask is None else mask.joined(added)


@lru_cache(maxsize=1024)
def _joined(mask: SecretMask | None, secrets: tuple[str, ...]) -> SecretMask:
    added = SecretMask(secrets)
    return added if mask is None else mask.joined(added)
