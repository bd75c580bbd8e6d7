"""Unusual bodies: each is accepted or refused for what it says, whatever was cached before."""

import json
from typing import Any

import orjson
import pytest
from api_fakes import wait
from body_checks import HTTP, every_result, validated

from waitd.api.server.bodies import MAX_DEPTH
from waitd.api.submission.sinks import CACHED_LENGTH
from waitd.api.submission.validation import RefusedBody, Submissions, ValidatedWait
from waitd.models import MAX_KEY_LENGTH, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, MAX_SINKS

assert MAX_DEPTH == 64, "the depths below follow from it"

#: Bodies with one thing that is unusual or at a limit, and how many of the three ways to send them
#: are accepted.
UNUSUAL: dict[str, tuple[Any, int]] = {
    "only required fields": (wait(), 3),
    "http": (HTTP, 3),
    "http, another endpoint": (wait(kind="http", params={"endpoint": "http://h.example/a.b"}), 3),
    "a cached connection": (wait(params={"endpoint": "/x", "http_conn_id": "cached"}), 3),
    "an uncached connection": (wait(params={"endpoint": "/x", "http_conn_id": "other"}), 3),
    "an uncached connection of a sink": (wait(sinks=[{"kind": "plain_sink", "conn_id": "other"}]), 3),
    "true as a number": (wait(poke_interval=True), 0),
    "a number as a flag": (wait(soft_fail=1), 0),
    "a number as text": (wait(timeout="5"), 0),
    "zero": (wait(poke_interval=0), 0),
    "minus zero": (wait(timeout=-0.0), 0),
    "too often": (wait(poke_interval=0.01), 0),
    "too long": (wait(timeout=1e300), 0),
    "a kind with a poke interval of its own": (wait(kind="paced"), 3),
    "too often for its kind": (wait(kind="paced", poke_interval=29), 0),
    "an unknown field": (wait(surprise=None), 0),
    "an unknown kind": (wait(kind="fax"), 0),
    "no kind": ({"params": {"endpoint": "/x"}}, 0),
    "null as kind": (wait(kind=None), 0),
    "null as params": (wait(params=None), 0),
    "a list as params": (wait(params=[]), 0),
    "null as sinks": (wait(sinks=None), 0),
    "null as a sink": (wait(sinks=[None]), 0),
    "a sink without a kind": (wait(sinks=[{"url": "u"}]), 0),
    "a list as a sink's kind": (wait(sinks=[{"kind": ["plain_sink"]}]), 0),
    "too many sinks": (wait(sinks=[{"kind": "plain_sink"}] * (MAX_SINKS + 1)), 0),
    "a long sink": (wait(sinks=[{"kind": "plain_sink", "url": "u" * CACHED_LENGTH}]), 3),
    "labels at the limit": (wait(labels={f"{n:063}": "é" * MAX_LABEL_VALUE for n in range(MAX_LABELS)}), 3),
    "too many labels": (wait(labels={f"{n}": "" for n in range(MAX_LABELS + 1)}), 0),
    "a label without a name": (wait(labels={"": "x"}), 0),
    "a label with a long name": (wait(labels={"n" * (MAX_LABEL_NAME + 1): "x"}), 0),
    "a label with a long value": (wait(labels={"n": "x" * (MAX_LABEL_VALUE + 1)}), 0),
    "a number as a label": (wait(labels={"n": 1}), 0),
    **{f"a label with {ord(c):x}": (wait(labels={"n": c}), 0) for c in "\0\n\x7f\x85\u2028"},
    **{f"a label's name with {ord(c):x}": (wait(labels={c: "n"}), 0) for c in "\0\n\x7f\x85\u2028"},
    **{f"a key with {ord(c):x}": (wait(supersede_key=c), 0) for c in "\0\n\x7f\x85\u2028"},
    "a label with a no-break space": (wait(labels={"n": "\xa0"}), 3),
    "an empty key": (wait(wake_on=""), 0),
    "a key at the limit": (wait(wake_on="k" * MAX_KEY_LENGTH), 3),
    "a long key": (wait(supersede_key="k" * (MAX_KEY_LENGTH + 1)), 0),
    "a job that the kind cannot submit": (wait(submit={"endpoint": "/y"}), 0),
    "a job that is not an object": (wait(kind="http", submit=[]), 0),
    "null as the job": (wait(submit=None), 3),
    "an idempotency key": (wait(idempotency_key="k"), 2),
    "a number as idempotency key": (wait(idempotency_key=1), 0),
    "a list": ([], 0),
    "nested up to the limit": (wait(params={"endpoint": "/x", "json": json.loads("[" * 61 + "]" * 61)}), 3),
    "nested beyond the limit": (wait(params={"endpoint": "/x", "json": json.loads("[" * 63 + "]" * 63)}), 0),
    "a sink nested beyond the limit": (
        wait(sinks=[{"kind": "plain_sink", "url": json.loads("[" * 62 + "]" * 62)}]),
        0,
    ),
    "a job nested beyond the limit": (
        wait(kind="http", submit={"endpoint": "/x", "json": json.loads("[" * 63 + "]" * 63)}),
        0,
    ),
}


@pytest.mark.parametrize(("body", "accepted"), UNUSUAL.values(), ids=UNUSUAL)
async def test_unusual_bodies_are_accepted_or_refused_whatever_is_cached(
    submissions: Submissions, body: Any, accepted: int
) -> None:
    for _ in range(2):  # the second time, from the caches
        for text, count in ((orjson.dumps(body), accepted), (orjson.dumps(HTTP), 3)):
            results = await every_result(submissions, text)
            assert sum(isinstance(result, ValidatedWait) for result in results) == count


#: Texts that decoders may read differently, and whether they are accepted.
TEXTS = {
    "a carriage return at the end": (b'{"kind":"plain","params":{"endpoint":"/x"}}\r', True),
    "a repeated field": (
        b'{"kind":"http","kind":"plain","params":{},"params":{"endpoint":"/x"}}',
        True,
    ),
    "a repeated label": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"1","a":"2"}}',
        True,
    ),
    "escaped letters": (
        b'{"k\\u0069nd":"plain","params":{"endpoint":"\\u002fx"},"labels":{"\\u0061":"b"}}',
        True,
    ),
    "an escaped line feed": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"\\u0061":"\\n"}}',
        False,
    ),
    "a lone surrogate": (b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"\\ud800"}}', False),
    "a lone surrogate in params": (b'{"kind":"plain","params":{"endpoint":"/\\ud800"}}', False),
    "not UTF-8": (b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"\xff"}}', False),
    "not UTF-8 in params": (b'{"kind":"plain","params":{"endpoint":"\xff"}}', False),
    "not UTF-8 in sinks": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"sinks":[{"kind":"plain_sink","url":"\xff"}]}',
        False,
    ),
    "not UTF-8 in overridden params": (
        b'{"kind":"plain","params":{"a":"\xff"},"params":{"endpoint":"/x"}}',
        False,
    ),
    "not UTF-8 in overridden sinks": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"sinks":["\xff"],"sinks":[]}',
        False,
    ),
    "a number over the limit": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"timeout":100000000000000000000000}',
        False,
    ),
    "a number over the range": (b'{"kind":"plain","params":{"endpoint":"/x"},"timeout":1e400}', False),
    "a large number in params": (
        b'{"kind":"plain","params":{"endpoint":"/x","n":100000000000000000000000}}',
        True,
    ),
    "a number over the range in params": (b'{"kind":"plain","params":{"endpoint":"/x","n":1e400}}', False),
    "numbers in other notations": (
        b'{"kind":"plain","params":{"endpoint":"/x","a":1.0,"b":1,"c":1e0},"timeout":6e1}',
        True,
    ),
    "a name like another field's value": (
        b'{"kind":"http","params":{"endpoint":"http://h.example/\\u0078","endpointx":[]}}',
        False,
    ),
    "a name like another field's value, of its type": (
        b'{"kind":"http","params":{"endpoint":"http://h.example/\\u0078","endpointx":"http://h.example/"}}',
        False,
    ),
    "two values": (b'{"kind":"plain","params":{"endpoint":"/x"}}{}', False),
    "nothing": (b"", False),
    "nesting without a limit": (b'{"kind":"plain","params":' + b"[" * 30_000 + b"]" * 30_000 + b"}", False),
    "nesting without a limit in an unknown field": (
        b'{"kind":"plain","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        False,
    ),
}


@pytest.mark.parametrize(("text", "accepted"), TEXTS.values(), ids=TEXTS)
async def test_a_text_that_decoders_read_differently_has_one_result(
    submissions: Submissions, text: bytes, accepted: bool
) -> None:
    for _ in range(3):  # the third time, from the cache of parameters
        results = await every_result(submissions, text)
        assert [isinstance(result, ValidatedWait) for result in results] == [accepted] * 3


async def test_a_repeated_field_must_be_valid_each_time(submissions: Submissions) -> None:
    """The struct checks both values. Pydantic sees only the last one, so the problem is the
    decoder's message.
    """
    result = await validated(submissions, b'{"kind":1,"kind":"plain","params":{"endpoint":"/x"}}')
    assert isinstance(result, RefusedBody)
    [problem] = result.problems
    assert "$.kind" in problem.detail
