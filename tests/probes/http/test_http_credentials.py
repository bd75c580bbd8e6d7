"""Pokes with each kind of credentials, against a target that takes only good ones."""

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
from waitd.outgoing import Outgoing
from waitd.probes.http.probe import HttpProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

KINDS = ["oauth2", "oauth2_post", "airbyte", "google", "google_id"]


class Never(set[str]):
    """Nothing that is given out is ever good."""

    def add(self, _: str) -> None:
        pass


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
    """Answers 401 to whoever brings no good token."""

    tokens: TokenEndpoint
    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.headers))
        brought = request.headers.get("Authorization") or request.headers.get("Proxy-Authorization") or ""
        good = brought.removeprefix("Bearer ") in self.tokens.good
        return web.json_response({"ok": good}, status=200 if good else 401)


@asynccontextmanager
async def probe(
    outgoing: Outgoing | None = None, *answers: Connection | Exception
) -> AsyncIterator[HttpProbe]:
    out = outgoing or Outgoing()
    async with TokenEndpointClient(out, instruments=Instruments(version="test")) as tokens:
        authorizer = Authorizer(tokens, NoKeys(), now=lambda: 0.0)
        connections = Authorized(authorizer, *answers)
        async with HttpProbe(
            connections, secret_headers=(), outgoing=out, now=lambda: 1_795_228_867.0
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


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_reaches_its_target_with_one_token_for_many_pokes(
    tokens: TokenEndpoint, target: Target, kind: str
) -> None:
    async with probe(None, tokens.connections(target.url)[kind]) as http:
        for _ in range(3):
            [verdict] = await poke(http, {"http_conn_id": kind, "endpoint": "jobs/1"})
            assert isinstance(verdict, Success)
    assert tokens.issued == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_401_drops_the_token_and_asks_once_more(
    tokens: TokenEndpoint, target: Target, method: str
) -> None:
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        wait = {"http_conn_id": "oauth2", "endpoint": "jobs/1", "method": method}
        await poke(http, wait)
        tokens.good.clear()
        [verdict] = await poke(http, wait)
        assert isinstance(verdict, Success)
        assert (tokens.issued, len(target.seen)) == (2, 3)


async def test_a_401_to_a_fresh_token_is_the_targets_answer(tokens: TokenEndpoint, target: Target) -> None:
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        tokens.good = Never()
        [verdict] = await poke(http, {"http_conn_id": "oauth2", "endpoint": "x"})
    assert isinstance(verdict, Failure)
    assert (tokens.issued, len(target.seen)) == (2, 2)


async def test_a_token_endpoint_that_is_down_ends_no_wait(tokens: TokenEndpoint, target: Target) -> None:
    tokens.status = 503
    async with probe(None, tokens.connections(target.url)["oauth2"]) as http:
        [verdict] = await poke(http, {"http_conn_id": "oauth2", "endpoint": "x"})
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "credentials_unavailable"
    assert target.seen == []


async def test_a_signature_fits_the_request_that_is_sent(target: Target) -> None:
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
    seen = target.seen[0]
    signed = {name: seen[name] for name in ("Content-Type", "X-Amz-Target")}
    expected = AwsSigner("glue", "eu-west-1", AwsKeys("AKIA", "secret")).headers(
        "POST", f"{target.url}/a%20b/c?b=x+y&a=1", signed, '{"JobName":"ü"}'.encode(), now=1_795_228_867.0
    )
    assert seen["Authorization"] == expected["Authorization"]
    assert "x-amz-target" in seen["Authorization"]


# ------------------------------------------------------------ egress


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9.254.169.254", "[::ffff:a9fe:a9fe]", "169.254.169.254."])  # fmt: skip
async def test_a_metadata_address_is_refused_at_submit(host: str) -> None:
    async with probe() as http:
        with pytest.raises(InvalidInput, match="metadata") as raised:
            http.parse({"endpoint": f"http://{host}/latest"}, namespace="default")
    assert raised.value.problems[0].pointer == "/endpoint"


async def test_a_wait_accepted_before_is_not_poked_where_the_rules_forbid_it(target: Target) -> None:
    outgoing = Outgoing()
    async with probe(outgoing) as http:
        wait = http.parse({"endpoint": f"{target.url}/x"}, namespace="default")
        outgoing.add_listener("127.0.0.1", int(target.url.rpartition(":")[2]))
        [verdict] = await http.poke([Poked(wait)])
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "egress_refused"
    assert target.seen == []


async def test_a_connection_kept_for_an_operators_host_is_not_lent_to_a_submitter(
    tokens: TokenEndpoint, target: Target
) -> None:
    outgoing = Outgoing(EgressPolicy.from_settings([], [], private=False))
    port = target.url.rpartition(":")[2]
    api = Connection("api", host=f"http://localhost:{port}")
    async with probe(outgoing, api) as http:
        [theirs] = await poke(http, {"http_conn_id": "api", "endpoint": "x", "success_when": "status == 401"})
        assert isinstance(theirs, Success)
        [mine] = await poke(http, {"endpoint": f"http://localhost:{port}/x"})
    assert isinstance(mine, Unreachable)
    assert mine.reason == "egress_refused"
    assert len(target.seen) == 1
