"""Reads an Airflow connection of type `aws` as Airflow's `AwsConnectionWrapper` does.

Only what requests to a service need is read:

- The access key: login and password, else extra `aws_access_key_id` and `aws_secret_access_key`;
  default: the environment's credentials.
- The key's session token: extra `aws_session_token`.
- The profile of the environment's credentials: extra `profile_name`.
- The role to assume with the key: extra `role_arn`, `external_id` and `assume_role_kwargs`.
- The region: extra `region_name`.
- The endpoint of AWS or of a compatible service: extra `service_config.<service>.endpoint_url`,
  else `endpoint_url`.
- S3's addressing style (`path`, `virtual` or `auto`): extra `config_kwargs.s3.addressing_style`.
- No credentials, for public buckets: extra `config_kwargs.signature_version` = `unsigned`.
- Certificates: extra `verify`. False: do not verify them; a path: verify them with this CA bundle.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.connection import Connection, join_url, text_field

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
    region = text_field(extra, "region_name")
    if region is not None and not is_region(region):
        raise ValueError("the extra's region_name is not the name of a region")
    config = _map(extra, "config_kwargs")
    style = text_field(_map(config, "s3"), "addressing_style") or "auto"
    if style not in _STYLES:
        raise ValueError(f"addressing_style is one of {', '.join(_STYLES)}")
    unsigned = config.get("signature_version") == "unsigned"
    verify = extra.get("verify")
    bundle = verify if isinstance(verify, str) and verify.lower() not in {"", "true", "false"} else None
    return AwsConnection(
        keys=None if unsigned else _key_source(connection, region),
        region=region,
        endpoint=aws_endpoint(extra, service),
        addressing_style=style,
        verify_tls=connection.verifies_tls(),
        ca_bundle=bundle,
    )


def aws_endpoint(extra: Mapping[str, Any], service: str, *, own_only: bool = False) -> str | None:
    """The base URL of a service, which has boto3's name; None for AWS's own.

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


def _key_source(connection: Connection, region: str | None) -> AwsKeySource:
    extra = connection.extra
    key_id, secret = connection.login, connection.password
    if not (key_id and secret):
        key_id, secret = text_field(extra, "aws_access_key_id"), text_field(extra, "aws_secret_access_key")
    static = AwsKeys(key_id, secret, text_field(extra, "aws_session_token")) if key_id and secret else None
    if static is None and (connection.login or connection.password):
        raise ValueError("the connection needs both login (the access key id) and password (its secret)")
    return AwsKeySource(static, text_field(extra, "profile_name"), _role(extra), region)


def _role(extra: Mapping[str, Any]) -> AssumedRole | None:
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
        raise ValueError("assume_role_kwargs holds only strings and numbers")
    return AssumedRole(arn, tuple(sorted(options.items())), aws_endpoint(extra, "sts", own_only=True))


def _map(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - bad data, not a bad call
    return value
