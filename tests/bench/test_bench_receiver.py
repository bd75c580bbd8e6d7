"""The callback receiver, with the reference implementation of Standard Webhooks as the sender."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from waitd.bench.receiver import TOLERANCE, Receiver, verify_signature

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOW = 1_800_000_000.0


def event(wait_id: str, **data: object) -> bytes:
    return orjson.dumps({"id": wait_id, "data": {"state": "success", **data}})


def headers(body: bytes, *, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    signed = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at)), "webhook-signature": signed}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def status(http: aiohttp.ClientSession, receiver: Receiver, body: bytes, sent: dict[str, str]) -> int:
    async with http.post(receiver.url, data=body, headers=sent) as answer:
        return answer.status


def test_a_signature_of_the_reference_implementation_is_valid() -> None:
    assert verify_signature(SECRET, headers(b"{}"), b"{}", NOW)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{ }", headers(b"{}")),
        (b"{}", headers(b"{}") | {"webhook-id": "msg_2"}),
        (b"{}", headers(b"{}", secret="whsec_" + base64.b64encode(b"another key").decode())),
        (b"{}", headers(b"{}", at=NOW - TOLERANCE - 1)),
        (b"{}", headers(b"{}", at=NOW + TOLERANCE + 1)),
        (b"{}", headers(b"{}") | {"webhook-timestamp": "soon"}),
        (b"{}", {}),
    ],
)
def test_any_other_signature_is_invalid(body: bytes, sent: dict[str, str]) -> None:
    assert not verify_signature(SECRET, sent, body, NOW)


def test_one_good_signature_among_several_is_enough() -> None:
    sent = headers(b"{}")
    assert verify_signature(
        SECRET, sent | {"webhook-signature": "v1,AAAA " + sent["webhook-signature"]}, b"{}", NOW
    )


async def test_it_counts_by_wait_and_notices_repeated_and_changed_events(
    http: aiohttp.ClientSession,
) -> None:
    async with Receiver(SECRET, clock=lambda: NOW) as receiver:
        for body in (event("a"), event("a"), event("b"), event("b", pokes=2)):
            assert await status(http, receiver, body, headers(body)) == 204
    assert {name: (c.accepted, len(c.digests)) for name, c in receiver.callbacks.items()} == {
        "a": (2, 1),
        "b": (2, 2),
    }


async def test_a_wrong_signature_is_refused_and_recorded(http: aiohttp.ClientSession) -> None:
    async with Receiver(SECRET, clock=lambda: NOW) as receiver:
        assert await status(http, receiver, event("a"), headers(event("b"))) == 401
    assert (receiver.callbacks["a"].badly_signed, receiver.callbacks["a"].accepted) == (1, 0)


async def test_the_chosen_share_is_refused_so_often_and_then_accepted(
    http: aiohttp.ClientSession,
) -> None:
    async with Receiver(SECRET, refuse_share=0.5, refuse_times=2, clock=lambda: NOW) as receiver:
        statuses = {}
        for n in range(40):
            body = event(f"wait-{n}")
            statuses[n] = [await status(http, receiver, body, headers(body)) for _ in range(3)]
    assert {tuple(s) for s in statuses.values()} == {(500, 500, 204), (204, 204, 204)}


async def test_a_body_that_is_no_event_is_refused(http: aiohttp.ClientSession) -> None:
    async with Receiver(SECRET, clock=lambda: NOW) as receiver:
        for body in (b"", b"[]", b"{}", b"\xff"):
            assert await status(http, receiver, body, {}) == 400
    assert receiver.malformed == 4
