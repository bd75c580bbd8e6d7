"""How a connection's credentials are written into an HTTP request.

`extra["auth_type"]` names an entry of `AUTH_TYPES`. Without it, a connection of conn_type `airflow`
has the auth_type `airflow`; another has `basic` with a login or a password, else `none`. A token
that must be fetched first is described as a `TokenRequest`; `waitd.connections` fetches it.

Each auth_type, what it sends, and the fields that it needs:

- `none`: nothing.
- `basic`: `Authorization: Basic …` with login and password.
- `bearer`: `Authorization: Bearer …` with extra `token`, else the password.
- `header`: the header that extra `header_name` names, with the password as its value.
- `oauth2_client_credentials`: a token (RFC 6749, section 4.4); see `token_requests`.
- `airflow`: a token that Airflow's API issues for login and password; without a login, as `bearer`.
- `airbyte`: an application token of Airbyte; see `token_requests`.
- `google_service_account`: an access token or, with `target_audience`, an ID token; see
  `token_requests`.
- `aws_sigv4`: a signature of each request, for extra `aws_service` and `region_name`, with the keys
  that `waitd.core.connections.aws` describes.
- `azure_storage` with extra `tenant_id`: a token of Entra ID for login and password (client id and
  secret).
- `azure_storage` without: a signature of each request with the password (the account's key) for the
  account in login (default: the first label of the host).

A token is sent as `Authorization: Bearer …`, or in the header that extra `token_header` names
(`Proxy-Authorization` for an identity-aware proxy in front of an application with its own login).

In addition, each entry of the object `extra["headers"]` is sent as a header. As in Airflow's
HttpHook, so is each other entry of `extra`; see `waitd.core.connections.extras`.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from waitd.core.connections.aws import AwsKeySource, parse_aws_connection
from waitd.core.connections.azure_signature import AzureSharedKey, parse_shared_key
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.extras import check_extras, header_extras
from waitd.core.connections.token_requests import (
    TokenRequest,
    airbyte_token_request,
    airflow_token_request,
    google_token_request,
    oauth2_token_request,
)

Header = tuple[str, str]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Control characters but the tab, and surrogates, which UTF-8 cannot encode.
_UNSENDABLE_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_AWS_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_AZURE_TENANT = re.compile(r"[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class AwsSigning:
    """Requests are signed with AWS Signature Version 4 for one service in one region."""

    service: str
    region: str
    keys: AwsKeySource = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a connection's requests: constant headers, and perhaps a token or a
    signature.

    Attributes:
        headers: sent with every request, to the connection's own origin only.
        token_request: how to fetch the token that is sent; None if there is none.
        token_header: the header that carries the token.
        signing: how to sign each request with an AWS key, which may have to be fetched first; None
            if that is not used.
        shared_key: the key of an Azure account that signs each request; None if not used.
    """

    headers: tuple[Header, ...] = field(default=(), repr=False)
    token_request: TokenRequest | None = None
    token_header: str = "Authorization"  # noqa: S105 - a name, not a secret
    signing: AwsSigning | None = None
    shared_key: AzureSharedKey | None = None


def build_credentials(connection: Connection) -> Credentials:
    """The credentials of a connection's requests.

    Raises:
        ValueError: the connection's fields do not fit its auth_type. The message quotes no secret.
    """
    extra = connection.extra
    auth_type = extra.get("auth_type", _default_auth_type(connection))
    if not isinstance(auth_type, str) or auth_type.lower() not in AUTH_TYPES:
        raise ValueError(f"auth_type must be one of {', '.join(AUTH_TYPES)}")
    check_extras(connection)
    headers = dict(_extra_headers(connection))
    auth = AUTH_TYPES[auth_type.lower()](connection)
    if isinstance(auth, dict):
        headers.update(auth)
    for name, value in headers.items():
        check_header(name, value)
    token_header = extra.get("token_header", "Authorization")
    if not isinstance(token_header, str):
        raise ValueError("token_header must be the name of a header")  # noqa: TRY004 - bad data, not a bad call
    check_header(token_header, "")
    return Credentials(
        headers=tuple(headers.items()),
        token_request=auth if isinstance(auth, TokenRequest) else None,
        token_header=token_header,
        signing=auth if isinstance(auth, AwsSigning) else None,
        shared_key=auth if isinstance(auth, AzureSharedKey) else None,
    )


def _default_auth_type(connection: Connection) -> str:
    if connection.conn_type == "airflow":  # Airflow's API does not accept basic authentication
        return "airflow"
    return "basic" if connection.login or connection.password else "none"


def check_header(name: str, value: str) -> None:
    """Refuses a header that would break out of its line or cannot be sent.

    Raises:
        ValueError: the message quotes neither: in a broken connection, each may be a secret.
    """
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a header name has only letters, digits and !#$%&'*+-.^_`|~")
    if _UNSENDABLE_CHARACTER.search(value):
        raise ValueError("the value of a header has control characters or is not valid Unicode")


def _extra_headers(connection: Connection) -> Iterator[Header]:
    """The headers that `extra` gives by itself, whatever the auth_type."""
    yield from header_extras(connection)
    headers = connection.extra.get("headers", {})
    if not isinstance(headers, Mapping) or not all(
        isinstance(text, str) for header in headers.items() for text in header
    ):
        raise ValueError("the extra's headers must be an object of strings")
    yield from headers.items()


def _none(_: Connection) -> dict[str, str]:
    return {}


def _basic(connection: Connection) -> dict[str, str]:
    return {"Authorization": basic_authorization(connection.login or "", connection.password or "")}


def basic_authorization(login: str, password: str) -> str:
    """The value of an `Authorization` header with HTTP Basic credentials (RFC 7617)."""
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
    if not isinstance(service, str) or not _AWS_SERVICE.fullmatch(service):
        raise ValueError("auth_type aws_sigv4 needs the extra's aws_service, e.g. glue or execute-api")
    account = parse_aws_connection(connection)
    if account.region is None:
        raise ValueError("auth_type aws_sigv4 needs the extra's region_name")
    if account.keys is None:
        raise ValueError("auth_type aws_sigv4 needs an access key, but signature_version is unsigned")
    return AwsSigning(service, account.region, account.keys)


def _azure_storage(connection: Connection) -> TokenRequest | AzureSharedKey:
    """As in Airflow's `WasbHook`: with tenant_id, login and password are an application's."""
    extra = connection.extra
    if extra.get("sas_token") or extra.get("connection_string"):
        raise ValueError(
            "auth_type azure_storage needs the account's key, or tenant_id with a client id and secret;"
            " sas_token and connection_string are not supported"
        )
    tenant = extra.get("tenant_id")
    if tenant:
        if not isinstance(tenant, str) or not _AZURE_TENANT.fullmatch(tenant):
            raise ValueError("tenant_id must be a tenant's id or its domain")
        defaults = {
            "token_url": f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
            "scope": "https://storage.azure.com/.default",
            "token_endpoint_auth_method": "client_secret_post",
        }
        return oauth2_token_request(replace(connection, extra={**defaults, **extra}))
    key = extra.get("shared_access_key") or connection.password
    if not isinstance(key, str):
        raise ValueError("auth_type azure_storage needs the account's key as the password, or a tenant_id")  # noqa: TRY004 - bad data, not a bad call
    account = connection.login or parse_origin(connection.base_url()).host.partition(".")[0]
    return parse_shared_key(account, key)


#: All values of auth_type. A new one is a function and a line here.
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
