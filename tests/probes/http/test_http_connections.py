"""Pokes through a connection: refused credentials, and connections that cannot be used."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes import FakeConnections
from job_api import BY_CONNECTION, DONE, job_api
from raw_server import HANG, Script, answer, poke, probe, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Failure, Success, Unreachable
from waitd.probes.access.http import HttpAccessResolver

pytestmark = pytest.mark.usefixtures("every_transport")

LOGIN = answer(302, b"", "Location: https://login.example/")


def accept_only(token: str, refusal: bytes) -> Callable[[str, int], Script]:
    return lambda head, _: [DONE if f"Authorization: Bearer {token}\r\n" in head else refusal]


EXPIRED = [
    answer(403, b"Token expired"),
    answer(403, b"", 'WWW-Authenticate: Bearer error="invalid_token"'),
    answer(403, b'{"error": {"code": "SESSION_GONE"}}'),
]
OTHERWISE = [
    *(answer(status) for status in (419, 440, 498)),
    answer(400, b"", 'WWW-Authenticate: Bearer realm="x", error="invalid_token"'),
]


@pytest.mark.parametrize("refusal", [answer(401), LOGIN, *EXPIRED, *OTHERWISE])
async def test_a_refused_request_is_repeated_with_fresh_credentials(refusal: bytes) -> None:
    async with (
        raw_server(accept_only("new", refusal)) as server,
        probe(job_api(server.url), job_api(server.url, "new")) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Success)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("refusal", "reason"), [(answer(401), "http_401"), (LOGIN, "redirected_elsewhere")])
async def test_a_second_refusal_is_a_failure_that_silent_fail_can_silence(
    refusal: bytes, reason: str
) -> None:
    async with raw_server([refusal]) as server, probe(job_api(server.url)) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == (reason, True)
    assert "old" not in verdict.message
    assert len(server.requests) == 2


@pytest.mark.parametrize("refusal", EXPIRED)
async def test_a_403_is_not_repeated_with_the_same_credentials(refusal: bytes) -> None:
    async with raw_server([refusal]) as server, probe(job_api(server.url)) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == ("http_403", True)
    assert len(server.requests) == 1


def aws_api(url: str, key_id: str = "OLDKEY") -> Connection:
    extra = {"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1"}
    return Connection("job_api", "aws", host=url, login=key_id, password="secret", extra=extra)


async def test_a_400_to_an_aws_signature_is_repeated_with_fresh_keys_if_there_are_others() -> None:
    expired = answer(400, b'{"__type": "ExpiredTokenException"}')
    async with (
        raw_server(lambda head, _: [DONE if "NEWKEY" in head else expired]) as server,
        probe(aws_api(server.url), aws_api(server.url, "NEWKEY")) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Success)


async def test_a_refusal_while_the_secrets_backend_is_down_is_unreachable() -> None:
    async with (
        raw_server([answer(401)]) as server,
        probe(job_api(server.url), ConnectionUnavailable("vault is sealed: hunter2")) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "credentials_unavailable"
    assert "hunter2" not in verdict.message


@pytest.mark.parametrize(
    ("resolved", "reason"),
    [
        (UnknownConnection("job_api"), "unknown_connection"),
        (ConnectionUnavailable("down"), "credentials_unavailable"),
        (Connection("job_api"), "connection_invalid"),
        (Connection("job_api", host="http://u:hunter2@h"), "connection_invalid"),
        (Connection("job_api", host="h", password="hunter2\r\nX: y", extra={"auth_type": "bearer"}), "connection_invalid"),
        (Connection("job_api", host="h", password="hunter2", extra={"auth_type": "kerberos"}), "connection_invalid"),
    ],
)  # fmt: skip
async def test_an_unusable_connection_is_unreachable_and_its_secret_is_not_quoted(
    resolved: Connection | Exception, reason: str
) -> None:
    async with probe(resolved) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == reason
    assert "hunter2" not in verdict.message


async def test_credentials_are_not_sent_to_an_absolute_endpoint_of_another_origin() -> None:
    async with raw_server([DONE]) as server, raw_server([DONE]) as other, probe(job_api(server.url)) as http:
        [verdict] = await poke(http, {"endpoint": f"{other.url}/x", "http_conn_id": "job_api"})
        assert isinstance(verdict, Unreachable)
        assert other.requests == []


async def test_the_origin_of_a_connection_is_parsed_once() -> None:
    resolver = HttpAccessResolver(FakeConnections(Connection("c", host="http://h.example:80")))
    assert resolver.origin("c") == "http://h.example"
    await resolver.get("c")
    assert resolver.origin("c") is resolver.origin("c")


async def test_the_timeout_of_a_connection_limits_a_poke() -> None:
    async with raw_server([HANG]) as server:
        connection = replace(job_api(server.url), extra={"timeout": 0.05})
        async with probe(connection) as http, asyncio.timeout(50):
            [verdict] = await poke(http, BY_CONNECTION | {"request_timeout": 60.0})
    assert verdict.reason == "timeout"
