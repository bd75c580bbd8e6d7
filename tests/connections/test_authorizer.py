"""What requests to connections carry: each kind, its tokens fetched from a real endpoint."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from daemon import serving
from prometheus_client import CollectorRegistry
from test_secrets_manager import StaticKeys
from token_endpoint import SECRET, TokenEndpoint, service_account_key, token_endpoint

from waitd.connections.authorizer import Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.azure_signature import parse_shared_key
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import ConnectionUnavailable
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing

KINDS = ["oauth2", "oauth2_post", "airbyte", "google", "google_id"]


@dataclass
class Clock:
    at: float = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(version="test")


@pytest.fixture
def keys() -> StaticKeys:
    return StaticKeys(AwsKeys("OLD", "s1", "t1"), AwsKeys("NEW", "s2"))


@pytest.fixture
async def authorizer(clock: Clock, instruments: Instruments, keys: StaticKeys) -> AsyncIterator[Authorizer]:
    async with TokenEndpointClient(Outgoing(), instruments=instruments) as tokens:
        made = Authorizer(tokens, keys, now=clock)
        yield made
        await made.aclose()


def lookups(registry: CollectorRegistry, result: str) -> float:
    labels = {"backend": "token_endpoint", "result": result}
    return registry.get_sample_value("waitd_secret_lookups_total", labels) or 0.0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_is_fetched_once_and_used_until_shortly_before_it_expires(
    authorizer: Authorizer, endpoint: TokenEndpoint, clock: Clock, instruments: Instruments, kind: str
) -> None:
    connection = endpoint.connections("http://h")[kind]
    header = "Proxy-Authorization" if kind == "google_id" else "Authorization"
    assert authorizer.cached_authorization(connection) is None
    first = await authorizer.authorize(connection)
    assert first.headers == ((header, "Bearer token-1"),)
    clock.at += 3500
    assert authorizer.cached_authorization(connection) is first
    clock.at += 41
    assert authorizer.cached_authorization(connection) is None
    assert (await authorizer.authorize(connection)).headers == ((header, "Bearer token-2"),)
    assert lookups(instruments.registry, "found") == 2


async def test_an_equal_connection_keeps_its_token(authorizer: Authorizer, endpoint: TokenEndpoint) -> None:
    connection = endpoint.connections("http://h")["oauth2"]
    first = await authorizer.authorize(connection)
    again = endpoint.connections("http://h")["oauth2"]
    assert again is not connection
    assert authorizer.cached_authorization(again) is first
    assert endpoint.issued == 1


async def test_a_rotated_secret_gets_another_token(authorizer: Authorizer, endpoint: TokenEndpoint) -> None:
    first = await authorizer.authorize(endpoint.connections("http://h")["oauth2"])
    renamed = endpoint.connections("http://h")["airbyte"]
    rotated = Connection(
        "oauth2", host="http://h", login=renamed.login, password=renamed.password, extra=renamed.extra
    )
    assert authorizer.cached_authorization(rotated) is None
    assert await authorizer.authorize(rotated) is not first


async def test_a_refused_token_is_replaced(authorizer: Authorizer, endpoint: TokenEndpoint) -> None:
    connection = endpoint.connections("http://h")["airbyte"]
    first = await authorizer.authorize(connection)
    second = await authorizer.authorize(connection, refused=first)
    assert second.headers == (("Authorization", "Bearer token-2"),)
    assert await authorizer.authorize(connection, refused=first) is second


def test_an_azure_shared_key_signs_without_a_fetch(authorizer: Authorizer) -> None:
    extra = {"auth_type": "azure_storage", "headers": {"X-Team": "data"}}
    connection = Connection("w", host="http://h", login="acme", password="a2V5", extra=extra)
    first = authorizer.cached_authorization(connection)
    assert first is not None
    assert first.headers == (("X-Team", "data"),)
    assert first.signer == parse_shared_key("acme", "a2V5")
    assert authorizer.cached_authorization(connection) is first


@pytest.mark.parametrize("status", [400, 401, 403, 302, 500])
async def test_a_refusing_endpoint_is_named_without_quoting(
    authorizer: Authorizer, endpoint: TokenEndpoint, instruments: Instruments, status: int
) -> None:
    endpoint.status = status
    with pytest.raises(
        ConnectionUnavailable, match=f"{endpoint.url} answered {status} invalid_client"
    ) as raised:
        await authorizer.authorize(endpoint.connections("http://h")["oauth2"])
    assert SECRET not in str(raised.value)
    assert lookups(instruments.registry, "unavailable") == 1


async def test_a_wrong_secret_and_an_invalid_key_are_errors(
    authorizer: Authorizer, endpoint: TokenEndpoint
) -> None:
    known = endpoint.connections("http://h")
    wrong = Connection("w", host="http://h", login="x", password="planted", extra=known["oauth2"].extra)
    with pytest.raises(ConnectionUnavailable, match="401 invalid_client"):
        await authorizer.authorize(wrong)
    extra = known["google"].extra
    garbled = {**extra, "keyfile_dict": {**extra["keyfile_dict"], "private_key": "planted"}}
    with pytest.raises(ValueError, match="not an RSA key") as raised:
        await authorizer.authorize(Connection("g", host="http://h", extra=garbled))
    assert "planted" not in str(raised.value)


Answer = Callable[[web.Request], web.Response]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda _: web.Response(text="planted"), "has no access_token"),
        (lambda _: web.json_response({"access_token": "planted\r\nX: y"}), "has no access_token"),
        (lambda _: web.json_response({"error": "planted"}, status=400), "answered 400$"),
        (lambda _: web.Response(status=302, headers={"Location": "http://169.254.169.254/"}), "answered 302"),
    ],
)
async def test_an_answer_without_a_token_is_not_quoted(
    authorizer: Authorizer, answer: Answer, complaint: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return answer(request)

    async with serving("POST", "/token", handler) as url:
        extra = {"auth_type": "oauth2_client_credentials", "token_url": f"{url}/token"}
        with pytest.raises(ConnectionUnavailable, match=complaint) as raised:
            await authorizer.authorize(Connection("c", host="h", login="i", password="s", extra=extra))
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://169.254.169.254/token", "metadata"),
        ("http://0xa9fea9fe/token", "metadata"),
        ("http://denied.example/token", "egress_deny"),
        ("http://127.0.0.1:1/token", "could not connect to the token endpoint at"),
    ],
)
async def test_a_token_url_obeys_the_egress_rules(
    clock: Clock, instruments: Instruments, url: str, why: str
) -> None:
    outgoing = Outgoing(EgressPolicy.from_settings([], ["denied.example"], private=False))
    extra = {"auth_type": "oauth2_client_credentials", "token_url": url}
    async with TokenEndpointClient(outgoing, instruments=instruments) as tokens:
        authorizer = Authorizer(tokens, StaticKeys(), now=clock)
        with pytest.raises(ConnectionUnavailable, match=why):
            await authorizer.authorize(Connection("c", host="h", login="i", password="s", extra=extra))


async def test_a_hanging_endpoint_times_out(instruments: Instruments, clock: Clock) -> None:
    import asyncio

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    extra = {"auth_type": "oauth2_client_credentials", "token_url": "/token"}
    async with (
        serving("POST", "/token", hang) as url,
        TokenEndpointClient(Outgoing(), instruments=instruments, timeout=0.05) as tokens,
    ):
        authorizer = Authorizer(tokens, StaticKeys(), now=clock)
        with pytest.raises(ConnectionUnavailable, match="did not answer in time"):
            await authorizer.authorize(Connection("c", host=url, login="i", password="s", extra=extra))


@pytest.mark.parametrize("extra", [{"auth_type": "none"}, {"auth_type": "basic"}, {"auth_type": "bearer"}])
async def test_fixed_headers_need_no_fetch_and_stay_identical(
    authorizer: Authorizer, extra: dict[str, str]
) -> None:
    connection = Connection("c", host="h", login="u", password="p", extra=extra)
    found = authorizer.cached_authorization(connection)
    assert found is not None
    assert authorizer.cached_authorization(connection) is found
    assert (
        authorizer.cached_authorization(Connection("c", host="h", login="u", password="p", extra=extra))
        is found
    )


async def test_static_aws_keys_need_no_fetch(authorizer: Authorizer) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1"}
    found = authorizer.cached_authorization(
        Connection("c", host="h", login="AKIA", password="s", extra=extra)
    )
    assert found is not None
    assert found.signer is not None
    signed = found.signer.headers("GET", "https://h/", None, None, now=time.time())
    assert "Credential=AKIA/" in signed["Authorization"]


async def test_the_environments_aws_keys_are_cached_and_refreshed_when_refused(
    authorizer: Authorizer, clock: Clock, keys: StaticKeys
) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1"}
    connection = Connection("c", host="h", extra=extra)
    assert authorizer.cached_authorization(connection) is None
    first = await authorizer.authorize(connection)
    assert isinstance(first.signer, AwsSigner)
    assert first.signer.keys.access_key_id == "OLD"
    second = await authorizer.authorize(connection, refused=first)
    assert isinstance(second.signer, AwsSigner)
    assert (second.signer.keys.access_key_id, keys.refreshes) == ("NEW", 1)


def test_the_tests_private_key_is_valid() -> None:
    assert service_account_key().as_dict(private=False)["kty"] == "RSA"
