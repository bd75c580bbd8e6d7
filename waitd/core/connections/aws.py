"""Reads an Airflow connection of type `aws` as Airflow's `AwsConnectionWrapper` does.

Only what requests to a service need is read:

- The access key: login and password, else extra `aws_access_key_id` and `aws_secret_access_key`,
  also in `session_kwargs`; default: the environment's credentials.
- The key's session token: extra `aws_session_token`.
- The profile of the environment's credentials: extra `profile_name`.
- The role to assume with the key: extra `role_arn`, `external_id` and `assume_role_kwargs`.
- The region: extra `region_name`.
- The endpoint of AWS or of a compatible service: extra `service_config.<service>.endpoint_url`,
  else `endpoint_url`.
- Of botocore's configuration, extra `config_kwargs`:
  - `s3.addressing_style`: `path`, `virtual` or `auto`.
  - `use_fips_endpoint` and `use_dualstack_endpoint`: AWS's endpoints for FIPS 140 and for IPv6.
  - `region_name` and `client_cert`.
  - `signature_version` = `unsigned`: send no credentials, for public buckets.
  Any other option that would change a request is refused.
- Certificates: extra `verify`. False: do not verify them; a path: verify them with this CA bundle.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.connection import Connection, join_url, text_field
from waitd.core.connections.extras import AWS_CONFIG_IGNORED
from waitd.core.connections.http_options import (
    DEFAULT_TLS,
    ClientTls,
    parse_client_tls,
    parse_connection_proxies,
)
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies

#: A region becomes a label of a host name. S3-compatible stores have region names of their own.
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_STYLES = ("auto", "path", "virtual")
#: What is read of `config_kwargs`, and of its `s3`.
_CONFIG = frozenset(
    {
        *("signature_version", "s3", "use_fips_endpoint", "use_dualstack_endpoint", "region_name"),
        *("client_cert", "proxies"),
    }
)
_S3_CONFIG = frozenset({"addressing_style"})
#: Signature Version 4, under botocore's names.
_SIGNATURES = (None, "unsigned", "v4", "s3v4")


def is_region(text: str) -> bool:
    """Whether `text` can be the name of a region."""
    return _REGION.fullmatch(text) is not None


class AssumedRole(NamedTuple):
    """A role to assume.

    Attributes:
        arn: the role.
        options: further parameters of STS's `AssumeRole`, sorted by name.
        endpoint: the base URL of STS; None for AWS's own.
        tls: how the certificates of STS are verified; the same as for the service itself.
    """

    arn: str
    options: tuple[tuple[str, Any], ...] = ()
    endpoint: str | None = None
    tls: ClientTls = DEFAULT_TLS


class AwsKeySource(NamedTuple):
    """Where the access key of a connection comes from.

    Attributes:
        static: the key in the connection; None for the environment's credentials.
        profile: the profile of the environment's credentials.
        role: the role to assume with that key, if any.
        region: the region of STS; None for the environment's.
        proxies: those of the connection, for STS.
    """

    static: AwsKeys | None = None
    profile: str | None = None
    role: AssumedRole | None = None
    region: str | None = None
    proxies: Proxies = DEFAULT_PROXIES


class AwsConnection(NamedTuple):
    """What a client of one AWS service needs from a connection.

    Attributes:
        keys: where the access key comes from; None if requests are not signed.
        region: None if the connection names none.
        endpoint: the base URL of the service; None for AWS's own.
        addressing_style: S3's addressing style: `auto`, `path` or `virtual`.
        tls: how certificates are verified.
        proxies: those of its requests, from `config_kwargs` or the extra itself.
        fips, dual_stack: whether AWS's endpoints for FIPS 140 and for IPv6 are used; both are false
            if there is an `endpoint`.
    """

    keys: AwsKeySource | None = AwsKeySource()
    region: str | None = None
    endpoint: str | None = None
    addressing_style: str = "auto"
    tls: ClientTls = DEFAULT_TLS
    fips: bool = False
    dual_stack: bool = False
    proxies: Proxies = DEFAULT_PROXIES


def parse_aws_connection(connection: Connection, service: str = "s3") -> AwsConnection:
    """Reads a connection for one service; `service` is its name in boto3.

    Raises:
        ValueError: a field has an unusable value. The message quotes no secret.
    """
    extra = connection.extra
    config = _config(extra)
    session = _map(extra, "session_kwargs")
    region = text_field(extra, "region_name") or text_field(session, "region_name")
    region = region or text_field(config, "region_name")
    if region is not None and not is_region(region):
        raise ValueError("the extra's region_name is not the name of a region")
    style = text_field(_map(config, "s3"), "addressing_style") or "auto"
    if style not in _STYLES:
        raise ValueError(f"the extra's config_kwargs.s3.addressing_style must be one of {', '.join(_STYLES)}")
    endpoint = aws_endpoint(extra, service)
    fips, dual_stack = _flag(config, "use_fips_endpoint"), _flag(config, "use_dualstack_endpoint")
    if endpoint is not None and (fips or dual_stack):
        raise ValueError(
            "use_fips_endpoint and use_dualstack_endpoint choose an endpoint of AWS, so they exclude endpoint_url"
        )
    tls, proxies = aws_tls(extra), aws_proxies(extra)
    unsigned = config.get("signature_version") == "unsigned"
    return AwsConnection(
        keys=None if unsigned else _key_source(connection, session, region, tls)._replace(proxies=proxies),
        region=region,
        endpoint=endpoint,
        addressing_style=style,
        tls=tls,
        fips=fips,
        dual_stack=dual_stack,
        proxies=proxies,
    )


def aws_proxies(extra: Mapping[str, Any]) -> Proxies:
    """The proxies of an AWS connection: those of `config_kwargs`, or of the extra itself.

    Raises:
        ValueError: as `parse_connection_proxies`.
    """
    config = _map(extra, "config_kwargs")
    own = {"proxies": config["proxies"]} if config.get("proxies") else {}
    return parse_connection_proxies({**extra, **own})


def _config(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config_kwargs`; refuses what would change a request and is not used."""
    config = _map(extra, "config_kwargs")
    unknown = [name for name in config if name not in _CONFIG | AWS_CONFIG_IGNORED]
    unknown += [f"s3.{name}" for name in _map(config, "s3") if name not in _S3_CONFIG | AWS_CONFIG_IGNORED]
    if unknown:
        raise ValueError(f"the extra's config_kwargs.{unknown[0]} is not supported")
    if config.get("signature_version") not in _SIGNATURES:
        raise ValueError("the extra's config_kwargs.signature_version must be unsigned, v4 or s3v4")
    return config


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value not in (None, True, False):
        raise ValueError(f"the extra's config_kwargs.{name} must be true or false")
    return bool(value)


def aws_endpoint(extra: Mapping[str, Any], service: str, *, own_only: bool = False) -> str | None:
    """The base URL of a service; None for AWS's own.

    Args:
        extra: the connection's `extra`. The service's endpoint in its `service_config` takes
            precedence over the endpoint that all services share.
        service: boto3's name of the service.
        own_only: ignore the endpoint that all services share.

    Raises:
        ValueError: it is not a URL.
    """
    url = text_field(_map(_map(extra, "service_config"), service), "endpoint_url")
    if url is None and not own_only:
        url = text_field(extra, "endpoint_url")
    if url is None:
        return None
    try:
        return join_url(url, "").rstrip("/")
    except ValueError as error:
        raise ValueError(f"the endpoint_url of {service}: {error}") from None


def aws_tls(extra: Mapping[str, Any]) -> ClientTls:
    """The TLS options in the extra of an AWS connection; raises as `parse_client_tls`."""
    return parse_client_tls({**extra, "cert": _map(extra, "config_kwargs").get("client_cert")})


def botocore_tls(tls: ClientTls) -> tuple[bool | str | None, str | tuple[str, str] | None]:
    """The same as botocore's options `verify` and `client_cert`."""
    cert = (tls.cert, tls.key) if tls.cert and tls.key else tls.cert
    return None if tls.verify is True else tls.verify, cert


def _key_source(
    connection: Connection, session: Mapping[str, Any], region: str | None, tls: ClientTls
) -> AwsKeySource:
    extra = connection.extra
    key_id, secret = connection.login, connection.password
    for fields in (extra, session):
        if not (key_id and secret):
            key_id = text_field(fields, "aws_access_key_id")
            secret = text_field(fields, "aws_secret_access_key")
    token = text_field(extra, "aws_session_token") or text_field(session, "aws_session_token")
    static = AwsKeys(key_id, secret, token) if key_id and secret else None
    if static is None and (connection.login or connection.password):
        raise ValueError("the connection needs both login (the access key id) and password (its secret)")
    profile = text_field(extra, "profile_name") or text_field(session, "profile_name")
    return AwsKeySource(static, profile, _role(extra, tls), region)


def _role(extra: Mapping[str, Any], tls: ClientTls) -> AssumedRole | None:
    arn = text_field(extra, "role_arn")
    if arn is None:
        return None
    if extra.get("assume_role_method", "assume_role") != "assume_role":
        raise ValueError("assume_role_method must be assume_role; other methods are not supported")
    options = {**_map(extra, "assume_role_kwargs")}
    external_id = text_field(extra, "external_id")
    if external_id is not None:
        options.setdefault("ExternalId", external_id)
    if not all(isinstance(value, (str, int)) for value in options.values()):
        raise ValueError("the values of the extra's assume_role_kwargs must be strings or numbers")
    endpoint = aws_endpoint(extra, "sts", own_only=True)
    return AssumedRole(arn, tuple(sorted(options.items())), endpoint, tls)


def _map(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"the extra's {name} must be an object")  # noqa: TRY004 - bad data, not a bad call
    return value
