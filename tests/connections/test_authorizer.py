"""The credentials of requests: each kind of connection, with tokens from a real endpoint."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from certificates import Authority
from daemon import serving
from lookup_metrics import count_lookups
from manual_clock import ManualClock
from stream_server import answering, stream_server
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
from waitd.outgoing import EgressGuard

KINDS = ["oauth2", "oauth2_post", "airbyte", "google", "google_id"]


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


@pytest.fixture
def keys() -> StaticKeys:
    return StaticKeys(AwsKeys("OLD", "s1", "t1"), AwsKeys("NEW", "s2"))


@asynccontextmanager
async def open_authorizer(
    clock: ManualClock,
    instruments: Instruments,
    keys: StaticKeys,
    egress: EgressGuard | None = None,
    endpoint_timeout: float = 10.0,
) -> AsyncIterator[Authorizer]:
    async with TokenEndpointClient(
        egress or EgressGuard(), instruments=instruments, timeout=endpoint_timeout
    ) as tokens:
        opened = Authorizer(tokens, keys, now=clock)
        yield opened
        await opened.aclose()


@pytest.fixture
async def authorizer(
    clock: ManualClock, instruments: Instruments, keys: StaticKeys
) -> AsyncIterator[Authorizer]:
    async with open_authorizer(clock, instruments, keys) as opened:
        yield opened


def oauth2(token_url: str, host: str = "h") -> Connection:
    """A connection whose tokens come from this URL, or from this path of its host."""
    extra = {"auth_type": "oauth2_client_credentials", "token_url": token_url}
    return Connection("c", host=host, login="i", password="s", extra=extra)


async def test_a_token_is_fetched_over_the_tls_of_the_connection(
    authorizer: Authorizer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    body = b'{"access_token": "issued", "token_type": "Bearer", "expires_in": 60}'
    handler = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with stream_server(handler, tls=authority.demanding_context()) as port:
        connection = oauth2("/token", f"https://127.0.0.1:{port}")
        connection = replace(connection, extra={**connection.extra, **authority.extra})
        authorization = await authorizer.authorize(connection)
    assert dict(authorization.headers)["Authorization"] == "Bearer issued"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_is_fetched_once_and_used_until_shortly_before_it_expires(
    authorizer: Authorizer, endpoint: TokenEndpoint, clock: ManualClock, instruments: Instruments, kind: str
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
    assert count_lookups(instruments, "token_endpoint", "found") == 2


async def test_an_equal_connection_keeps_its_token(authorizer: Authorizer, endpoint: TokenEndpoint) -> None:
    connection = endpoint.connections("http://h")["oauth2"]
    first = await authorizer.authorize(connection)
    equal = endpoint.connections("http://h")["oauth2"]
    assert equal is not connection
    assert authorizer.cached_authorization(equal) is first
    assert endpoint.issued == 1


async def test_a_rotated_secret_gets_another_token(authorizer: Authorizer, endpoint: TokenEndpoint) -> None:
    first = await authorizer.authorize(endpoint.connections("http://h")["oauth2"])
    rotated = replace(endpoint.connections("http://h")["airbyte"], conn_id="oauth2")
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
    assert count_lookups(instruments, "token_endpoint", "unavailable") == 1


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
    ("answer", "error"),
    [
        (lambda _: web.Response(text="planted"), "has no access_token"),
        (lambda _: web.json_response({"access_token": "planted\r\nX: y"}), "has no access_token"),
        (lambda _: web.json_response({"error": "planted"}, status=400), "answered 400$"),
        (lambda _: web.Response(status=302, headers={"Location": "http://169.254.169.254/"}), "answered 302"),
    ],
)
async def test_an_answer_without_a_token_is_not_quoted(
    authorizer: Authorizer, answer: Answer, error: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return answer(request)

    async with serving("POST", "/token", handler) as url:
        with pytest.raises(ConnectionUnavailable, match=error) as raised:
            await authorizer.authorize(oauth2(f"{url}/token"))
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
    clock: ManualClock, instruments: Instruments, keys: StaticKeys, url: str, why: str
) -> None:
    egress = EgressGuard(EgressPolicy.from_settings([], ["denied.example"], private=False))
    async with open_authorizer(clock, instruments, keys, egress) as authorizer:
        with pytest.raises(ConnectionUnavailable, match=why):
            await authorizer.authorize(oauth2(url))


async def test_a_hanging_endpoint_times_out(
    clock: ManualClock, instruments: Instruments, keys: StaticKeys
) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    async with (
        serving("POST", "/token", hang) as url,
        open_authorizer(clock, instruments, keys, endpoint_timeout=0.05) as authorizer,
    ):
        with pytest.raises(ConnectionUnavailable, match="did not answer in time"):
            await authorizer.authorize(oauth2("/token", host=url))


@pytest.mark.parametrize("extra", [{"auth_type": "none"}, {"auth_type": "basic"}, {"auth_type": "bearer"}])
async def test_fixed_headers_need_no_fetch_and_stay_identical(
    authorizer: Authorizer, extra: dict[str, str]
) -> None:
    connection = Connection("c", host="h", login="u", password="p", extra=extra)
    first = authorizer.cached_authorization(connection)
    assert first is not None
    assert authorizer.cached_authorization(connection) is first
    assert authorizer.cached_authorization(replace(connection)) is first  # an equal connection


async def test_static_aws_keys_need_no_fetch(authorizer: Authorizer) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1"}
    authorization = authorizer.cached_authorization(
        Connection("c", host="h", login="AKIA", password="s", extra=extra)
    )
    assert authorization is not None
    assert authorization.signer is not None
    signed = authorization.signer.headers("GET", "https://h/", None, None, now=time.time())
    assert "Credential=AKIA/" in signed["Authorization"]


async def test_the_environments_aws_keys_are_cached_and_refreshed_when_refused(
    authorizer: Authorizer, clock: ManualClock, keys: StaticKeys
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
