"""Pokes with each kind of credentials, against a target that accepts only valid ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from daemon import serving
from raw_server import Poked, ScriptedConnections, poke
from token_endpoint import TokenEndpoint, token_endpoint

from waitd.connections.authorizer import Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Failure, Success, Unreachable
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard
from waitd.probes.http.probe import HttpProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

NOW = 1_795_228_867.0


class NoKeys:
    async def get(self, source: AwsKeySource) -> AwsKeys:
        raise ValueError("there are none")

    refresh = get


class Authorized(ScriptedConnections):
    """Scripted connections with a real authorizer."""

    def __init__(self, authorizer: Authorizer, *answers: Connection | Exception) -> None:
        super().__init__(list(answers))
        self.cached_authorization = authorizer.cached_authorization  # type: ignore[method-assign]
        self.authorize = authorizer.authorize  # type: ignore[method-assign]


@dataclass
class Target:
    """Answers 401 to requests without a valid token. `requests`: the headers of each request."""

    tokens: TokenEndpoint
    url: str = ""
    rejecting: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        token = request.headers.get("Authorization") or request.headers.get("Proxy-Authorization") or ""
        valid = token.removeprefix("Bearer ") in self.tokens.good and not self.rejecting
        return web.json_response({"ok": valid}, status=200 if valid else 401)


@asynccontextmanager
async def probe(
    egress: EgressGuard | None = None, *answers: Connection | Exception
) -> AsyncIterator[HttpProbe]:
    egress = egress or EgressGuard()
    async with TokenEndpointClient(egress, instruments=Instruments(version="test")) as tokens:
        authorizer = Authorizer(tokens, NoKeys(), now=lambda: 0.0)
        async with HttpProbe(
            Authorized(authorizer, *answers), secret_headers=(), egress=egress, now=lambda: NOW
        ) as http:
            yield http
        await authorizer.aclose()


@pytest.fixture
async def tokens() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


@pytest.fixture
async def target(tokens: TokenEndpoint) -> AsyncIterator[Target]:
    target = Target(tokens)
    async with serving("*", "/{path:.*}", target.answer) as target.url:
        yield target


@pytest.mark.parametrize("kind", ["oauth2", "oauth2_post", "airbyte", "google", "google_id"])
async def test_one_token_serves_many_pokes(tokens: TokenEndpoint, target: Target, kind: str) -> None:
    async with probe(None, tokens.connections(target.url)[kind]) as http:
        for _ in range(3):
            [verdict] = await poke(http, {"http_conn_id": kind, "endpoint": "jobs/1"})
            assert isinstance(verdict, Success)
    assert tokens.issued == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_is_repeated_with_a_new_token_after_a_401(
    tokens: TokenEndpoint, target: Target, method: str
) -> None:
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        wait = {"http_conn_id": "oauth2", "endpoint": "jobs/1", "method": method}
        await poke(http, wait)
        tokens.good.clear()
        [verdict] = await poke(http, wait)
        assert isinstance(verdict, Success)
        assert (tokens.issued, len(target.requests)) == (2, 3)


async def test_a_401_to_a_new_token_is_a_failure(tokens: TokenEndpoint, target: Target) -> None:
    target.rejecting = True
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        [verdict] = await poke(http, {"http_conn_id": "oauth2", "endpoint": "x"})
    assert isinstance(verdict, Failure)
    assert (tokens.issued, len(target.requests)) == (2, 2)


async def test_a_poke_is_unreachable_while_the_token_endpoint_is_down(
    tokens: TokenEndpoint, target: Target
) -> None:
    tokens.status = 503
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        [verdict] = await poke(http, {"http_conn_id": "oauth2", "endpoint": "x"})
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "credentials_unavailable"
    assert target.requests == []


async def test_a_signature_matches_the_request_that_is_sent(target: Target) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1"}
    api = Connection("aws", host=target.url, login="AKIA", password="secret", extra=extra)
    wait: dict[str, Any] = {
        "http_conn_id": "aws",
        "endpoint": "a%20b/c",
        "request_params": {"b": "x y", "a": "1"},
        "method": "POST",
        "json": {"JobName": "ü"},
        "headers": {"X-Amz-Target": "AWSGlue.GetJobRun"},
    }
    async with probe(None, api) as http:
        await poke(http, wait)
    headers = target.requests[0]
    signed = {name: headers[name] for name in ("Content-Type", "X-Amz-Target")}
    expected = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret")).headers(
        "POST", f"{target.url}/a%20b/c?b=x+y&a=1", signed, '{"JobName":"ü"}'.encode(), now=NOW
    )
    assert headers["Authorization"] == expected["Authorization"]
    assert "x-amz-target" in headers["Authorization"]


# ------------------------------------------------------------ egress


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9.254.169.254", "[::ffff:a9fe:a9fe]", "169.254.169.254."])  # fmt: skip
async def test_a_metadata_address_is_refused_at_submit(host: str) -> None:
    async with probe() as http:
        with pytest.raises(InvalidInput, match="metadata") as raised:
            http.parse({"endpoint": f"http://{host}/latest"}, namespace="default")
    assert raised.value.problems[0].pointer == "/endpoint"


async def test_an_accepted_wait_is_not_poked_after_the_egress_rules_changed(target: Target) -> None:
    egress = EgressGuard()
    async with probe(egress) as http:
        wait = http.parse({"endpoint": f"{target.url}/x"}, namespace="default")
        egress.add_listener("127.0.0.1", int(target.url.rpartition(":")[2]))
        [verdict] = await http.poke([Poked(wait)])
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "egress_refused"
    assert target.requests == []


async def test_a_submitter_does_not_get_the_idle_connection_to_an_operators_host(
    tokens: TokenEndpoint, target: Target
) -> None:
    egress = EgressGuard(EgressPolicy.from_settings([], [], private=False))
    port = target.url.rpartition(":")[2]
    api = Connection("api", host=f"http://localhost:{port}")
    async with probe(egress, api) as http:
        by_connection = {"http_conn_id": "api", "endpoint": "x", "success_when": "status == 401"}
        [allowed] = await poke(http, by_connection)
        [refused] = await poke(http, {"endpoint": f"http://localhost:{port}/x"})
    assert isinstance(allowed, Success)
    assert isinstance(refused, Unreachable)
    assert refused.reason == "egress_refused"
    assert len(target.requests) == 1
