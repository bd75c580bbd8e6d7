"""The limits of one caller, and the answers above them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import orjson
import pytest
from aiohttp import ClientResponse
from api_answers import lines_of, problem_of
from api_fakes import Api, bearer, until, wait
from structlog.testing import capture_logs
from throttled import served

from waitd.api import Throttle, application
from waitd.api.server import throttle
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal, Role
from waitd.core.auth.quotas import DEFAULT_SHARES, Quota, Resource, Share
from waitd.core.errors import Unauthenticated
from waitd.models import MAX_BODY

ALICE = Principal("key:alice", Role.SUBMITTER)
BOB = Principal("key:bob", Role.SUBMITTER)
BATCHES = int(DEFAULT_SHARES[Resource.BATCHES].principal)
ONE_REQUEST = {Resource.REQUESTS: Quota(Resource.REQUESTS, Share(principal=1))}


class Tokens:
    """An authenticator: keys are cached, tokens have to be checked with their issuer."""

    keys: ClassVar = {"alice": ALICE, "bob": BOB}
    tokens: ClassVar = {"carol": Principal("oidc:carol", Role.SUBMITTER)}

    def __init__(self) -> None:
        self.checked = 0

    def cached_fresh(self, token: str) -> Principal | None:
        if token.startswith("key-"):
            raise Unauthenticated("unknown_key", "there is no such key")
        return self.keys.get(token)

    async def principal(self, token: str) -> Principal:
        self.checked += 1
        if token not in self.tokens:
            raise Unauthenticated("unknown_token", "the token is not valid")
        return self.tokens[token]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause after each refusal would let limits recover before the next request."""
    monkeypatch.setattr(application, "REFUSAL_PAUSE", 0.0)


@pytest.fixture
def authenticator() -> Tokens:
    return Tokens()


@pytest.fixture
def limits() -> dict[str, Any]:
    return {}


@pytest.fixture
def more(authenticator: Tokens, limits: dict[str, Any]) -> dict[str, Any]:
    return {"authenticator": authenticator, "throttle": Throttle(**limits)}


async def list_waits(api: Api, token: str) -> ClientResponse:
    return await api.client.get("/v1/waits", headers=bearer(token))


@pytest.mark.parametrize("limits", [{"requests_per_second": 0.2, "request_burst": 3}])
async def test_a_caller_over_its_rate_gets_retry_after_and_others_are_served(api: Api) -> None:
    for _ in range(3):
        assert (await list_waits(api, "alice")).status == 200
    refused = await list_waits(api, "alice")
    await problem_of(refused, 429, "too-many-requests")
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    assert (await list_waits(api, "bob")).status == 200
    assert (await api.client.get("/livez")).status == 200
    value = api.dependencies.instruments.registry.get_sample_value
    assert value("waitd_requests_refused_total", {"problem": "too-many-requests"}) == 1.0


@pytest.mark.parametrize("limits", [{"requests_per_second": 10.0, "request_burst": 100}])
@pytest.mark.parametrize("lines", [[orjson.dumps(wait())] * 300, [b'"' + b"x" * 20_000_000]])
async def test_a_batch_is_accepted_as_a_whole_and_counts_its_lines_and_size(
    api: Api, lines: list[bytes]
) -> None:
    assert len(await lines_of(await api.batch(*lines, **bearer("alice")))) == len(lines)
    refused = await list_waits(api, "alice")
    await problem_of(refused, 429, "too-many-requests")
    assert 15 <= int(refused.headers["Retry-After"]) <= 22
    assert (await list_waits(api, "bob")).status == 200


@pytest.mark.parametrize(
    "limits", [{"quotas": {Resource.REQUESTS: Quota(Resource.REQUESTS, Share(principal=2))}}]
)
async def test_one_caller_cannot_occupy_all_connections(api: Api) -> None:
    wait_id = await api.submit("alice")
    polls = [asyncio.create_task(api.get(f"/v1/waits/{wait_id}", "alice", wait="60")) for _ in range(2)]
    await until(lambda: len(api.dependencies.long_polls) == 2)
    await problem_of(await list_waits(api, "alice"), 429, "too-many-requests")
    assert (await list_waits(api, "bob")).status == 200
    api.dependencies.long_polls.notify(wait_id)
    await asyncio.gather(*polls)
    assert (await list_waits(api, "alice")).status == 200


async def test_one_caller_cannot_occupy_all_batches(api: Api) -> None:
    proceed = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield orjson.dumps(wait()) + b"\n"
        await proceed.wait()

    def send(token: str) -> Any:
        headers = {"Content-Type": "application/x-ndjson", **bearer(token)}
        return asyncio.create_task(api.client.post("/v1/waits:batch", data=lines(), headers=headers))

    probe: Any = api.dependencies.probes["plain"]
    running = [send("alice") for _ in range(BATCHES)]
    await until(lambda: probe.parsed == BATCHES)
    await problem_of(await send("alice"), 429, "too-many-batches")
    other = send("bob")
    await until(lambda: probe.parsed == BATCHES + 1)
    proceed.set()
    assert [(await task).status for task in [*running, other]] == [200] * (BATCHES + 1)


@pytest.mark.parametrize("guess", ["key-guess-{}", "token-{}"])
async def test_guessed_tokens_are_limited_by_address_and_cached_tokens_still_work(
    api: Api, authenticator: Tokens, guess: str
) -> None:
    statuses = [(await list_waits(api, guess.format(n))).status for n in range(2 * throttle.FAILURES)]
    assert statuses.count(401) >= throttle.FAILURES
    refused = await list_waits(api, guess.format("x"))
    await problem_of(refused, 429, "too-many-failures")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await list_waits(api, "alice")).status == 200
    assert (await list_waits(api, "carol")).status == 200  # it is right, and was never seen before


@pytest.mark.parametrize(
    "limits", [{"requests_per_second": 0.001, "request_burst": 3 * throttle.REFUSAL_COST}]
)
@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (403, "GET", "/v1/keys", None),
        (404, "GET", "/v1/waits/none", None),
        (413, "POST", "/v1/waits", b"x" * (MAX_BODY + 1)),
        (422, "POST", "/v1/waits", b"{}"),
    ],
)
async def test_refusals_cost_a_caller_more_than_requests(
    api: Api, status: int, method: str, path: str, body: bytes | None
) -> None:
    headers = {"Content-Type": "application/json", **bearer("alice")}
    for expected in (status, status, status, 429):
        answer = await api.client.request(method, path, data=body, headers=headers)
        assert answer.status == expected, await answer.text()
    assert (await list_waits(api, "alice")).status == 429
    assert (await list_waits(api, "bob")).status == 200


async def test_requests_to_nothing_are_limited_by_address_and_callers_are_not(api: Api) -> None:
    statuses = [(await api.client.get(f"/none/{n}")).status for n in range(throttle.STRAYS + 20)]
    assert set(statuses[: throttle.STRAYS]) == {404}
    assert 429 in statuses
    assert (await list_waits(api, "alice")).status == 200
    assert (await api.client.get("/livez")).status == 200


async def test_refusals_are_logged_once_a_second_with_their_number(api: Api) -> None:
    with capture_logs() as logs:
        for n in range(throttle.FAILURES):
            await list_waits(api, f"key-{n}")
        await asyncio.gather(*(api.client.get("/v1/keys", headers=bearer("alice")) for _ in range(5)))

        def counted(reason: str) -> int:
            return sum(line["count"] for line in logs if line.get("reason") == reason)

        await until(lambda: (counted("unknown_key"), counted("role")) == (throttle.FAILURES, 5))
    lines = [line for line in logs if line["event"] == "access_refused"]
    assert [line["principal"] for line in lines if line["reason"] == "role"] == ["key:alice"] * 2
    assert len(lines) < throttle.FAILURES


def test_addresses_of_one_network_share_a_limit() -> None:
    limits = Throttle()
    for n in range(throttle.FAILURES):
        limits.record_failure(f"2001:db8::{n}")
    with pytest.raises(Exception, match="wait"):
        limits.record_failure("2001:db8::ffff")
    for other in ("2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0", None):
        limits.record_failure(other)


def test_without_authentication_there_is_no_limit() -> None:
    limits = Throttle(requests_per_second=0.001, request_burst=1, quotas=ONE_REQUEST)
    with served(limits, LOOPBACK_PRINCIPAL), served(limits, LOOPBACK_PRINCIPAL):
        limits.charge(LOOPBACK_PRINCIPAL, 10_000, 0)
    with served(limits, LOOPBACK_PRINCIPAL):
        pass


def test_a_load_of_5000_requests_a_second_passes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from waitd.settings import Settings

    now = 0.0
    monkeypatch.setattr(throttle, "monotonic", lambda: now)
    default = Settings(bind="127.0.0.1:0")
    limits = Throttle(
        requests_per_second=default.requests_per_second,
        request_burst=default.request_burst,
        quotas=ONE_REQUEST,
    )
    for n in range(100_000):
        now = n / 5000
        with served(limits, ALICE):
            pass


def test_a_check_takes_microseconds() -> None:
    limits = Throttle(requests_per_second=1e9, request_burst=1000)
    started = time.process_time()
    for _ in range(10_000):
        with served(limits, ALICE):
            pass
    assert (time.process_time() - started) / 10_000 < 50e-6
