"""Connections in AWS Secrets Manager, laid out as Airflow's `SecretsManagerBackend` does.

The secret `<prefix>/<conn_id>` holds a URI or JSON. Requests are plain HTTP with Signature Version
4; an `AwsKeyProvider` supplies the keys.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from waitd.connections.airflow_formats import connection_from_fields, parse_connection
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.destinations import check_region
from waitd.core.connections.sent_secrets import keys_mask
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import EgressGuard, JsonClient, JsonResponse, ServiceClient
from waitd.ports import AwsKeyProvider

#: Seconds that AWS has to answer.
TIMEOUT = 10.0
_MAX_RESPONSE = 1024 * 1024
#: The names that Airflow's backend accepts for a field; the first one present counts.
_FIELD_NAMES: Mapping[str, tuple[str, ...]] = {
    "login": ("login", "user", "username", "user_name"),
    "password": ("password", "pass", "key"),
    "host": ("host", "remote_host", "server"),
    "port": ("port",),
    "schema": ("database", "schema"),
    "conn_type": ("conn_type", "conn_id", "connection_type", "engine"),
    "extra": ("extra",),
}
#: AWS's errors for a secret that does not exist, or is being deleted.
_ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
#: AWS's errors for expired keys; the request is repeated once with refreshed ones.
_EXPIRED = frozenset(
    {"ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredToken"}
)


class SecretsManagerLocation(NamedTuple):
    """Where the secrets are.

    `endpoint` None: AWS's own in the region. `profile`: of the environment's AWS configuration.
    """

    region: str
    prefix: str = "airflow/connections"
    endpoint: str | None = None
    profile: str | None = None


class SecretsManagerResolver(ServiceClient):
    """Looks a conn_id up in AWS Secrets Manager.

    Used as an asynchronous context manager; `now` gives Unix seconds.
    """

    backend = "aws_secrets_manager"

    def __init__(
        self,
        location: SecretsManagerLocation,
        keys: AwsKeyProvider,
        egress: EgressGuard,
        *,
        now: Callable[[], float],
    ) -> None:
        """Raises ValueError where the region or the endpoint is malformed."""
        region = check_region(location.region)
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        self._url = f"{parse_origin(location.endpoint or f'https://secretsmanager.{region}.{suffix}')}/"
        self._location = location
        self._source = AwsKeySource(profile=location.profile, region=region)
        self._keys = keys
        self._now = now
        self._proxies = egress.proxies
        self._client = JsonClient(egress, ConnectionUnavailable, max_bytes=_MAX_RESPONSE, timeout=TIMEOUT)

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the secret describes.

        Raises:
            UnknownConnection: AWS answered that there is no such secret.
            ConnectionUnavailable: AWS does not answer or refuses, or the secret cannot be parsed.
        """
        prefix = self._location.prefix
        name = f"{prefix.rstrip('/')}/{conn_id}" if prefix else conn_id
        response = await self._get_secret(name, refresh_keys=False)
        if response.status != 200 and _error_code(response) in _EXPIRED:
            response = await self._get_secret(name, refresh_keys=True)
        if response.status != 200 and _error_code(response) in _ABSENT:
            raise UnknownConnection(f"there is no secret for the connection {conn_id} in AWS Secrets Manager")
        value = response.fields.get("SecretString")
        if response.status != 200 or not isinstance(value, str):
            raise ConnectionUnavailable(
                f"AWS Secrets Manager answered {response.status} {_error_code(response)}".strip()
            )
        try:
            return _parse_secret(conn_id, value)
        except ValueError as error:
            raise ConnectionUnavailable(f"the secret of {conn_id} cannot be read: {error}") from None

    async def _get_secret(self, name: str, *, refresh_keys: bool) -> JsonResponse:
        try:
            keys = await (self._keys.refresh if refresh_keys else self._keys.get)(self._source)
        except ValueError as error:
            raise ConnectionUnavailable(str(error)) from None
        body = orjson.dumps({"SecretId": name})
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "secretsmanager.GetSecretValue",
        }
        signer = AwsSigner("secretsmanager", self._location.region, keys)
        headers |= signer.headers("POST", self._url, headers, body, now=self._now())
        response = await self._client.request(
            "POST", self._url, service="AWS Secrets Manager", headers=headers, data=body
        )
        if response.status == 200:
            return response
        masked = keys_mask(keys, self._proxies).mask_bytes(orjson.dumps(response.body))  # its code is shown
        return response._replace(body=orjson.loads(masked))


def _parse_secret(conn_id: str, value: str) -> Connection:
    if not value.lstrip().startswith("{"):
        return parse_connection(conn_id, value)
    try:
        secret = orjson.loads(value)
    except orjson.JSONDecodeError:
        secret = None
    if not secret:
        raise ValueError("it is not a JSON object")
    fields = {
        field: next((secret[name] for name in names if secret.get(name)), None)
        for field, names in _FIELD_NAMES.items()
    }
    return connection_from_fields(
        conn_id, {name: value for name, value in fields.items() if value is not None}
    )


def _error_code(response: JsonResponse) -> str:
    """AWS's name of an error, without its namespace."""
    code = response.fields.get("__type")
    plain = code.rpartition("#")[2] if isinstance(code, str) else ""
    return plain if plain.isalnum() and len(plain) < 64 else ""
