"""An Airflow connection of type `aws`, read as Airflow's `AwsConnectionWrapper` reads it, as far as requests to a service need it.

| where                                                            | what                                                             |
|------------------------------------------------------------------|------------------------------------------------------------------|
| login, password; else extra `aws_access_key_id`, `aws_secret_access_key` | the key; without one: the environment's credentials      |
| extra `aws_session_token`                                        | its token                                                        |
| extra `profile_name`                                             | which of the environment's credentials                           |
| extra `role_arn`, `external_id`, `assume_role_kwargs`            | the role that is assumed with them                               |
| extra `region_name`                                              | the region                                                       |
| extra `service_config.<service>.endpoint_url`, else `endpoint_url` | the endpoint, of AWS's own or of another store                   |
| extra `config_kwargs.s3.addressing_style`                        | `path`, `virtual` or `auto`                                      |
| extra `config_kwargs.signature_version` = `unsigned`             | no credentials at all, for public buckets                        |
| extra `verify`                                                   | false: certificates are not checked; a path: of a CA bundle      |
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.connection import Connection, join_url

#: Safe as a host's label; other stores name theirs as they like.
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_STYLES = ("auto", "path", "virtual")


def is_region(text: str) -> bool:
    """Whether `text` can be a region's name."""
    return _REGION.fullmatch(text) is not None


class AssumedRole(NamedTuple):
    """A role to assume. `options` are STS's own parameters; `endpoint` is that of STS, or None for AWS's own."""

    arn: str
    options: tuple[tuple[str, Any], ...] = ()
    endpoint: str | None = None


class AwsKeySource(NamedTuple):
    """Where keys come from: `given`, else the environment's (of a profile); with a role, that of these are assumed."""

    given: AwsKeys | None = None
    profile: str | None = None
    role: AssumedRole | None = None
    #: Where STS is asked; None: as the environment says.
    region: str | None = None


class AwsConnection(NamedTuple):
    """What a client of a service needs to know of a connection.

    Attributes:
        keys: where its keys come from; None: requests are not signed.
        region: or None where the connection names none.
        endpoint: the base URL of the service, or None for AWS's own.
        style: of S3's addresses: `auto`, `path` or `virtual`.
        verify_tls: whether certificates are checked.
        ca_bundle: path of the certificates to check them against, or None for the system's.
    """

    keys: AwsKeySource | None = AwsKeySource()
    region: str | None = None
    endpoint: str | None = None
    style: str = "auto"
    verify_tls: bool = True
    ca_bundle: str | None = None


def parse_aws_connection(connection: Connection, service: str = "s3") -> AwsConnection:
    """The connection as a service, by boto3's name of it, needs it.

    Raises:
        ValueError: something of it cannot be used; the message quotes no secret.
    """
    extra = connection.extra
    region = _text(extra, "region_name")
    if region is not None and not is_region(region):
        raise ValueError("the extra's region_name is no region's name")
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
        style=style,
        verify_tls=connection.verifies_tls(),
        ca_bundle=bundle,
    )


def aws_endpoint(connection: Connection, service: str) -> str | None:
    """The base URL of a service, by boto3's name of it: its own in `service_config`, else the connection's; None: AWS's own.

    Raises:
        ValueError: it is no URL.
    """
    return _endpoint(connection.extra, service)


def _key_source(connection: Connection, region: str | None) -> AwsKeySource:
    extra = connection.extra
    key_id, secret = connection.login, connection.password
    if not (key_id and secret):
        key_id, secret = _text(extra, "aws_access_key_id"), _text(extra, "aws_secret_access_key")
    given = AwsKeys(key_id, secret, _text(extra, "aws_session_token")) if key_id and secret else None
    if given is None and (connection.login or connection.password):
        raise ValueError("the connection has half of a key: login is its id, password its secret")
    return AwsKeySource(given, _text(extra, "profile_name"), _role(extra), region)


def _role(extra: Mapping[str, Any]) -> AssumedRole | None:
    arn = _text(extra, "role_arn")
    if arn is None:
        return None
    if extra.get("assume_role_method", "assume_role") != "assume_role":
        raise ValueError("of the ways to assume a role, only assume_role is known")
    options = {**_map(extra, "assume_role_kwargs")}
    external_id = _text(extra, "external_id")
    if external_id is not None:
        options.setdefault("ExternalId", external_id)
    if not all(isinstance(value, (str, int)) for value in options.values()):
        raise ValueError("assume_role_kwargs holds only strings and numbers")
    return AssumedRole(arn, tuple(sorted(options.items())), _endpoint(extra, "sts", alone=True))


def _endpoint(extra: Mapping[str, Any], service: str, *, alone: bool = False) -> str | None:
    """The base URL of a service, checked; `alone`: the connection's common endpoint is not its."""
    url = _text(_map(_map(extra, "service_config"), service), "endpoint_url")
    if url is None and not alone:
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
        raise ValueError(f"{name} is no map")  # noqa: TRY004 - bad data, not a bad call
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} is no string")  # noqa: TRY004 - bad data, not a bad call
    return value
