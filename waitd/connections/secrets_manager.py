"""Connections in AWS Secrets Manager, as Airflow's `SecretsManagerBackend` has them: the secret `<prefix>/<conn_id>`, a URI or JSON.

It is asked over plain HTTP with a Signature Version 4; where the keys come from is somebody else's (`Keys`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from waitd import __version__
from waitd.connections.airflow_forms import connection_of, parse_connection
from waitd.connections.authorizer import Keys
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.destinations import check_region
from waitd.core.connections.egress import HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import Outgoing, blocked

#: Seconds that AWS has to answer.
TIMEOUT = 10.0
_MAX_ANSWER = 1024 * 1024
#: The names that Airflow's backend takes for a field; the first that is there counts.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "login": ("login", "user", "username", "user_name"),
    "password": ("password", "pass", "key"),
    "host": ("host", "remote_host", "server"),
    "port": ("port",),
    "schema": ("database", "schema"),
    "conn_type": ("conn_type", "conn_id", "connection_type", "engine"),
    "extra": ("extra",),
}
#: What AWS says of a secret that is not there, or that is being deleted.
_ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
#: What AWS says of keys that hold no longer; asked once more with fresh ones.
_STALE = frozenset(
    {"ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredToken"}
)


class SecretsPlace(NamedTuple):
    """Where the secrets are. `endpoint` None: AWS's own of the region; `profile`: of the environment's AWS settings."""

    region: str
    prefix: str = "airflow/connections"
    endpoint: str | None = None
    profile: str | None = None


class SecretsManagerResolver:
    """Looks a conn_id up in AWS Secrets Manager. An asynchronous context, in which it holds one HTTP session; `now` gives Unix seconds."""

    backend = "aws_secrets_manager"

    def __init__(
        self, place: SecretsPlace, keys: Keys, outgoing: Outgoing, *, now: Callable[[], float]
    ) -> None:
        """Raises ValueError where region or endpoint is none."""
        region = check_region(place.region)
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        self._url = f"{parse_origin(place.endpoint or f'https://secretsmanager.{region}.{suffix}')}/"
        self._place = place
        self._source = AwsKeySource(profile=place.profile, region=region)
        self._keys = keys
        self._outgoing = outgoing
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._outgoing.connector(HostSource.BY_OPERATOR),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers={"User-Agent": f"waitd/{__version__}"},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the secret describes.

        Raises:
            UnknownConnection: AWS answered, and has no such secret.
            ConnectionUnavailable: it does not answer, or refuses, or the secret cannot be read.
        """
        name = f"{self._place.prefix.rstrip('/')}/{conn_id}" if self._place.prefix else conn_id
        status, answer = await self._ask(name, anew=False)
        if status != 200 and _code(answer) in _STALE:
            status, answer = await self._ask(name, anew=True)
        if status != 200 and _code(answer) in _ABSENT:
            raise UnknownConnection(f"there is no secret for the connection {conn_id} in AWS Secrets Manager")
        value = answer.get("SecretString")
        if status != 200 or not isinstance(value, str):
            raise ConnectionUnavailable(f"AWS Secrets Manager answered {status} {_code(answer)}".strip())
        try:
            return _connection(conn_id, value)
        except ValueError as error:
            raise ConnectionUnavailable(f"the secret of {conn_id} cannot be read: {error}") from None

    async def _ask(self, name: str, *, anew: bool) -> tuple[int, dict[str, Any]]:
        if self._session is None:
            raise RuntimeError("AWS Secrets Manager is asked outside its context")
        try:
            keys = await (self._keys.refreshed if anew else self._keys.keys)(self._source)
        except ValueError as error:
            raise ConnectionUnavailable(str(error)) from None
        body = orjson.dumps({"SecretId": name})
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "secretsmanager.GetSecretValue",
        }
        signer = AwsSigner("secretsmanager", self._place.region, keys)
        headers |= signer.headers("POST", self._url, headers, body, now=self._now())
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, _decoded(await response.content.read(_MAX_ANSWER))
        except (aiohttp.ClientError, OSError) as error:
            refusal = blocked(error)
            why = f"is refused: {refusal.why}" if refusal else "does not answer"
            raise ConnectionUnavailable(f"AWS Secrets Manager {why}") from None


def _connection(conn_id: str, value: str) -> Connection:
    if not value.lstrip().startswith("{"):
        return parse_connection(conn_id, value)
    given = _decoded(value.encode())
    if not given:
        raise ValueError("it is no JSON object")
    fields = {
        field: next((given[word] for word in words if given.get(word)), None)
        for field, words in _WORDS.items()
    }
    return connection_of(conn_id, {name: item for name, item in fields.items() if item is not None})


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _code(answer: Mapping[str, Any]) -> str:
    """AWS's name of an error, without its namespace."""
    code = answer.get("__type")
    plain = code.rpartition("#")[2] if isinstance(code, str) else ""
    return plain if plain.isalnum() and len(plain) < 64 else ""
