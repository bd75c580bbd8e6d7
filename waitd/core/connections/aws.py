"""Reads an Airflow connection of type `aws` as Airflow's `AwsConnectionWrapper` does.

Only what requests to a service need is read.

| where                                                            | what                                                             |
|------------------------------------------------------------------|------------------------------------------------------------------|
| login, password; else extra `aws_access_key_id`, `aws_secret_access_key` | the access key; default: the environment's credentials   |
| extra `aws_session_token`                                        | the key's session token                                          |
| extra `profile_name`                                             | the profile of the environment's credentials                     |
| extra `role_arn`, `external_id`, `assume_role_kwargs`            | the role to assume with the key                                  |
| extra `region_name`                                              | the region                                                       |
| extra `service_config.<service>.endpoint_url`, else `endpoint_url` | the endpoint of AWS or of a compatible service                 |
| extra `config_kwargs.s3.addressing_style`                        | `path`, `virtual` or `auto`                                      |
| extra `config_kwargs.signature_version` = `unsigned`             | no credentials, for public buckets                               |
| extra `verify`                                                   | false: do not verify certificates; a path: of a CA bundle        |
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.connection import Connection, join_url

#: A region becomes a label of a host name. S3-compatible stores have region names of their own.
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_STYLES = ("auto", "path", "virtual")


def is_region(text: str) -> bool:
    """Whether `text` can be the name of a region."""
    return _REGION.fullmatch(text) is not None


class AssumedRole(NamedTuple):
    """A role to assume.

    Attributes:
        arn: the role.
        options: further parameters of STS's `AssumeRole`, sorted by name.
        endpoint: the base URL of STS; None for AWS's own.
    """

    arn: str
    options: tuple[tuple[str, Any], ...] = ()
    endpoint: str | None = None


class AwsKeySource(NamedTuple):
    """Where the access key of a connection comes from.

    Attributes:
        static: the key in the connection; None for the environment's credentials.
        profile: the profile of the environment's credentials.
        role: the role to assume with that key, if any.
        region: the region of STS; None for the environment's.
    """

    static: AwsKeys | None = None
    profile: str | None = None
    role: AssumedRole | None = None
    region: str | None = None


class AwsConnection(NamedTuple):
    """What a client of one AWS service needs from a connection.

    Attributes:
        keys: where the access key comes from; None if requests are not signed.
        region: None if the connection names none.
        endpoint: the base URL of the service; None for AWS's own.
        addressing_style: S3's addressing style: `auto`, `path` or `virtual`.
        verify_tls: whether certificates are verified.
        ca_bundle: the path of a CA bundle; None for the system's.
    """

    keys: AwsKeySource | None = AwsKeySource()
    region: str | None = None
    endpoint: str | None = None
    addressing_style: str = "auto"
    verify_tls: bool = True
    ca_bundle: str | None = None


def parse_aws_connection(connection: Connection, service: str = "s3") -> AwsConnection:
    """Reads a connection for one service, which has boto3's name.

    Raises:
        ValueError: a field has an unusable value. The message quotes no secret.
    """
    extra = connection.extra
    region = _text(extra, "region_name")
    if region is not None and not is_region(region):
        raise ValueError("the extra's region_name is not the name of a region")
    config = _map(extra, "config_kwargs")
    style = _text(_map(config, "s3"), "addressing_style") or "auto"
    if style not in _STYLES:
        raise ValueError(f"addressing_style is one of {', '.join(_STYLES)}")
    unsigned = config.get("signature_version") == "unsigned"
    verify = extra.get("verify")
    bundle = verify if isinstance(verify, str) and verify.lower() not in {"", "true", "false"} else None
    return AwsConnection(
        keys=None if unsigned else _key_source(connection, region),
        region=region,
        endpoint=_endpoint(extra, service),
        addressing_style=style,
        verify_tls=connection.verifies_tls(),
        ca_bundle=bundle,
    )


def aws_endpoint(connection: Connection, service: str) -> str | None:
    """The base URL of a service, which has boto3's name; None for AWS's own.

    The endpoint in `service_config` takes precedence over the connection's.

    Raises:
        ValueError: it is not a URL.
    """
    return _endpoint(connection.extra, service)


def _key_source(connection: Connection, region: str | None) -> AwsKeySource:
    extra = connection.extra
    key_id, secret = connection.login, connection.password
    if not (key_id and secret):
        key_id, secret = _text(extra, "aws_access_key_id"), _text(extra, "aws_secret_access_key")
    static = AwsKeys(key_id, secret, _text(extra, "aws_session_token")) if key_id and secret else None
    if static is None and (connection.login or connection.password):
        raise ValueError("the connection needs both login (the access key id) and password (its secret)")
    return AwsKeySource(static, _text(extra, "profile_name"), _role(extra), region)


def _role(extra: Mapping[str, Any]) -> AssumedRole | None:
    arn = _text(extra, "role_arn")
    if arn is None:
        return None
    if extra.get("assume_role_method", "assume_role") != "assume_role":
        raise ValueError("assume_role_method must be assume_role; other methods are not supported")
    options = {**_map(extra, "assume_role_kwargs")}
    external_id = _text(extra, "external_id")
    if external_id is not None:
        options.setdefault("ExternalId", external_id)
    if not all(isinstance(value, (str, int)) for value in options.values()):
        raise ValueError("assume_role_kwargs holds only strings and numbers")
    return AssumedRole(arn, tuple(sorted(options.items())), _endpoint(extra, "sts", own_only=True))


def _endpoint(extra: Mapping[str, Any], service: str, *, own_only: bool = False) -> str | None:
    """The base URL of a service; `own_only` ignores the endpoint that all services share."""
    url = _text(_map(_map(extra, "service_config"), service), "endpoint_url")
    if url is None and not own_only:
        url = _text(extra, "endpoint_url")
    if url is None:
        return None
    try:
        return join_url(url, "").rstrip("/")
    except ValueError as error:
        raise ValueError(f"the endpoint_url of {service}: {error}") from None


def _map(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - bad data, not a bad call
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")  # noqa: TRY004 - bad data, not a bad call
    return value
