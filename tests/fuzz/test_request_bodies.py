"""Request bodies: the decoders agree on each, and the API never answers one with a 5xx."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from api_fakes import Api, PlainProbe, WatchedStore, wait
from body_checks import HTTP, every_result
from fuzzing import Fuzz, mutated
from served_api import serving

from waitd.api.submission.validation import Submissions, ValidatedWait
from waitd.probes.http.probe import HttpProbe
from waitd.stores import open_database

WAIT_ID = "0190c8b0-0000-7000-8000-000000000000"
#: By path: the type of the body, and bodies from which others are made.
BODIES: dict[str, tuple[str, list[Any]]] = {
    "/v1/waits": (
        "application/json",
        [
            HTTP,
            wait(labels={"a": "b", "é": "\\"}, supersede_key="k", wake_on="w", timeout=60, soft_fail=True),
            wait(sinks=[{"kind": "plain_sink", "url": "u"}, {"kind": "dag_sink", "dag_id": "d"}]),
            wait(params={"endpoint": "/x", "json": {"a": [1, 2.5e3, None, {"b": "\u202e"}]}}),
        ],
    ),
    "/v1/waits:batch": ("application/x-ndjson", [wait(idempotency_key="k"), HTTP]),
    f"/v1/waits/{WAIT_ID}:cancel": ("application/json", [{}]),
    "/v1/deliveries:redeliver": (
        "application/json",
        [{"ids": [WAIT_ID]}, {"state": "dead", "sink": "plain_sink", "limit": 3}],
    ),
    "/v1/keys": ("application/json", [{"role": "viewer", "namespace": "team_a", "expires_in": 60}]),
    "/v1/signals/key": ("application/json", [{"any": ["thing", 1]}, None, "text"]),
    "/v1/signals:s3": (
        "application/json",
        [
            {
                "Records": [
                    {
                        "eventName": "s3:ObjectCreated:Put",
                        "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}},
                    }
                ]
            }
        ],
    ),
}
CORPUS = [json.dumps(body).encode() for _, bodies in BODIES.values() for body in bodies]


def some_body(random: Random, bodies: list[Any]) -> bytes:
    """Returns one of the bodies, mostly after some edits."""
    text = json.dumps(random.choice(bodies), ensure_ascii=random.random() < 0.5).encode()
    return text if random.random() < 0.1 else mutated(random, text, CORPUS)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    store = WatchedStore(await open_database("sqlite+aiosqlite://"))
    async with serving(store) as api:
        yield api
    await store.close()


async def test_the_decoders_agree_on_every_body(api: Api, fuzz: Fuzz) -> None:
    _, bodies = BODIES["/v1/waits"]
    async with HttpProbe(api.connections, secret_headers=("authorization",)) as http:
        probes: dict[str, Any] = {"plain": PlainProbe(), "http": http}
        submissions = Submissions(replace(api.dependencies, probes=probes))
        for random in fuzz.rounds():
            text = some_body(random, bodies)
            single, *lines = await every_result(submissions, text)
            specs = [result.new.spec if isinstance(result, ValidatedWait) else None for result in lines]
            assert specs[0] == specs[1], text
            if b"idempotency_key" not in text:  # a field of lines only
                assert specs[0] == (single.new.spec if isinstance(single, ValidatedWait) else None), text


async def test_no_body_makes_the_api_fail(api: Api, fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        path = random.choice(list(BODIES))
        content_type, bodies = BODIES[path]
        text = b"\n".join(some_body(random, bodies) for _ in range(1 if "batch" not in path else 3))
        response = await api.post(path, text, Content_Type=content_type)
        answer = await response.text()
        assert response.status < 500, (path, text, answer)
        if path == "/v1/waits:batch":
            assert '"status":5' not in answer, (text, answer)
