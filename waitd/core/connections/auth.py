"""How a connection's credentials are written into an HTTP request.

`extra["auth_type"]` names the way, one entry of `KINDS`; without it, `airflow` where that is the conn_type, else `basic` where there is a
login or a password, else `none`. What has to be fetched first is described here as a `TokenRequest`; who fetches it lives in `waitd.connections`.

| auth_type                   | sends                                                                    | needs                                     |
|-----------------------------|--------------------------------------------------------------------------|-------------------------------------------|
| `none`                      | nothing                                                                  |                                           |
| `basic`                     | `Authorization: Basic …`                                                 | login, password                           |
| `bearer`                    | `Authorization: Bearer …`                                                | extra `token`, else password              |
| `header`                    | the header named by extra `header_name`                                  | password: its value                       |
| `oauth2_token_request` | a token of RFC 6749, 4.4                                                 | see `waitd.core.connections.token_requests`        |
| `airflow`                   | a token of Airflow's API; without a login, the one that is given         | login, password; else as `bearer`         |
| `airbyte`                   | a token of Airbyte's application                                         | see there                                 |
| `google_token_request`    | an access token, or with `target_audience` an ID token                   | see there                                 |
| `aws_sigv4`                 | a signature of each request                                              | extra `aws_service`, `region_name`; keys as in `core.aws_connection` |
| `azure_storage`             | with extra `tenant_id` a token of Entra ID, else a signature of each request by the account's key | login and password: client id and secret; else the account (default: the host's first label) and its key |

A token is sent as `Authorization: Bearer …`, or in the header that extra `token_header` names (`Proxy-Authorization`, where an
identity-aware proxy stands before an application that has its own).

Besides, each entry of the map `extra["headers"]` is sent as a header; and, as Airflow's HttpHook does it, so is each entry of `extra`
itself whose name can only be a header's: `Authorization`, `Accept`, or any name with a hyphen.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from waitd.core.connections.aws import AwsKeySource, parse_aws_connection
from waitd.core.connections.azure_signature import AzureSharedKey, parse_shared_key
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.token_requests import (
    TokenRequest,
    airbyte_token_request,
    airflow_token_request,
    google_token_request,
    oauth2_token_request,
)

Header = tuple[str, str]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TENANT = re.compile(r"[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class AwsSigning:
    """Each request is signed by AWS's Signature Version 4, for one service in one region."""

    service: str
    region: str
    keys: AwsKeySource = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection's requests need: headers that are known at once, and perhaps a token or a signature.

    Attributes:
        headers: sent with every request, to the connection's own origin only.
        grant: how a token is got that is sent, too; None: there is none.
        token_header: the header that carries it.
        signing: how each request is signed with keys that may have to be fetched; None: it is not.
        shared_key: how each request is signed with a key that is known; None: it is not.
    """

    headers: tuple[Header, ...] = field(default=(), repr=False)
    grant: TokenRequest | None = None
    token_header: str = "Authorization"  # noqa: S105 - a name, not a secret
    signing: AwsSigning | None = None
    shared_key: AzureSharedKey | None = None


def build_credentials(connection: Connection) -> Credentials:
    """What the connection's requests need.

    Raises:
        ValueError: the connection's extra cannot be read as such; the message quotes no secret.
    """
    extra = connection.extra
    kind = extra.get("auth_type", _default_kind(connection))
    if not isinstance(kind, str) or kind.lower() not in AUTH_TYPES:
        raise ValueError(f"auth_type is one of {', '.join(AUTH_TYPES)}")
    headers = dict(_named_headers(extra))
    way = AUTH_TYPES[kind.lower()](connection)
    grant = way if isinstance(way, TokenRequest) else None
    signing = way if isinstance(way, AwsSigning) else None
    if isinstance(way, dict):
        headers.update(way)
    for name, value in headers.items():
        check_header(name, value)
    token_header = extra.get("token_header", "Authorization")
    if not isinstance(token_header, str):
        raise ValueError("token_header is the name of a header")  # noqa: TRY004 - bad data, not a bad call
    check_header(token_header, "")
    key = way if isinstance(way, AzureSharedKey) else None
    return Credentials(tuple(headers.items()), grant, token_header, signing, key)


def _default_kind(connection: Connection) -> str:
    if connection.conn_type == "airflow":  # it takes no basic authentication
        return "airflow"
    return "basic" if connection.login or connection.password else "none"


def http_headers(connection: Connection) -> tuple[Header, ...]:
    """The headers of a connection whose credentials need nothing fetched and nothing signed.

    Raises:
        ValueError: as `build_credentials`.
    """
    return build_credentials(connection).headers


def check_header(name: str, value: str) -> None:
    """Refuses what would break out of a header line, or cannot be sent at all.

    Raises:
        ValueError: says which; it quotes the name, never the value.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a header name has only letters, digits and !#$%&'*+-.^_`|~")
    if _CONTROL.search(value):
        raise ValueError(f"the value of {name} has control characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name} is no Unicode text") from None


def _named_headers(extra: Mapping[str, object]) -> Iterator[Header]:
    for name, value in extra.items():
        if isinstance(value, str) and ("-" in name or name.lower() in {"authorization", "accept"}):
            yield name, value
    headers = extra.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("the extra's headers are a map of names to strings")
    yield from headers.items()


def _none(_: Connection) -> dict[str, str]:
    return {}


def _basic(connection: Connection) -> dict[str, str]:
    return {"Authorization": basic_authorization(connection.login or "", connection.password or "")}


def basic_authorization(login: str, password: str) -> str:
    """The value of `Authorization` that carries these two."""
    return f"Basic {b64encode(f'{login}:{password}'.encode()).decode()}"


def _bearer(connection: Connection) -> dict[str, str]:
    token = connection.extra.get("token") or connection.password
    if not isinstance(token, str):
        raise ValueError("auth_type bearer needs a password or the extra's token")  # noqa: TRY004 - bad data, not a bad call
    return {"Authorization": f"Bearer {token}"}


def _airflow(connection: Connection) -> dict[str, str] | TokenRequest:
    return airflow_token_request(connection) if connection.login else _bearer(connection)


def _header(connection: Connection) -> dict[str, str]:
    name = connection.extra.get("header_name")
    if not isinstance(name, str) or connection.password is None:
        raise ValueError("auth_type header needs the extra's header_name and a password")
    return {name: connection.password}


def _aws_sigv4(connection: Connection) -> AwsSigning:
    service = connection.extra.get("aws_service")
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise ValueError("auth_type aws_sigv4 needs the extra's aws_service, e.g. glue or execute-api")
    account = parse_aws_connection(connection)
    if account.region is None:
        raise ValueError("auth_type aws_sigv4 needs the extra's region_name")
    if account.keys is None:
        raise ValueError("auth_type aws_sigv4 needs keys; signature_version unsigned has none")
    return AwsSigning(service, account.region, account.keys)


def _azure_storage(connection: Connection) -> TokenRequest | AzureSharedKey:
    """As Airflow's `WasbHook` reads its connection: with a tenant, login and password are an application's; else the key is the account's."""
    extra = connection.extra
    if extra.get("sas_token") or extra.get("connection_string"):
        raise ValueError(
            "auth_type azure_storage takes the account's key, or tenant_id with a client id and secret; no sas_token and no connection_string"
        )
    tenant = extra.get("tenant_id")
    if tenant:
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise ValueError("tenant_id is a tenant's id or its domain")
        known = {
            "token_url": f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
            "scope": "https://storage.azure.com/.default",
            "token_endpoint_auth_method": "client_secret_post",
        }
        return oauth2_token_request(replace(connection, extra={**known, **extra}))
    key = extra.get("shared_access_key") or connection.password
    if not isinstance(key, str):
        raise ValueError("auth_type azure_storage needs the account's key as the password, or a tenant_id")  # noqa: TRY004 - bad data, not a bad call
    account = connection.login or parse_origin(connection.base_url()).host.partition(".")[0]
    return parse_shared_key(account, key)


#: Every way, by its name. A new one is one function and one line here.
AUTH_TYPES: Mapping[
    str, Callable[[Connection], dict[str, str] | TokenRequest | AwsSigning | AzureSharedKey]
] = {
    "none": _none,
    "basic": _basic,
    "bearer": _bearer,
    "header": _header,
    "oauth2_client_credentials": oauth2_token_request,
    "airflow": _airflow,
    "airbyte": airbyte_token_request,
    "google_service_account": google_token_request,
    "aws_sigv4": _aws_sigv4,
    "azure_storage": _azure_storage,
}
