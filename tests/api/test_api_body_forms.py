"""Unusual bodies: each is accepted or refused for what it says, whatever was cached before."""

import json
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from api_answers import pointers_of
from api_fakes import Api, wait
from body_checks import HTTP, every_result

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
        False,
    ),
    "a repeated label": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"1","a":"2"}}',
        False,
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


#: Bodies with repeated fields, and the pointers to them.
REPEATED = {
    "kind": (b'{"kind":"http","kind":"plain","params":{"endpoint":"/x"}}', ["/kind"]),
    "equal values": (b'{"kind":"plain","params":{"endpoint":"/x"},"timeout":60,"timeout":60}', ["/timeout"]),
    "defaults": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"soft_fail":false,"soft_fail":false}',
        ["/soft_fail"],
    ),
    "spaces before colons": (b'{"kind" :"plain","kind"\t:"plain","params" : {"endpoint" :"/x"}}', ["/kind"]),
    "an escaped name": (b'{"kind":"plain","k\\u0069nd":"plain","params":{"endpoint":"/x"}}', ["/kind"]),
    "an escaped colon that makes up for it": (
        b'{"kind":"plain","kind":"plain","params":{"endpoint":"/x"},"wake_on":"\\u003a"}',
        ["/kind"],
    ),
    "a name that is not ASCII": (
        '{"kind":"plain","params":{"endpoint":"/x"},"labels":{"é":"1","é":"2"}}'.encode(),
        ["/labels/é"],
    ),
    "a label": (b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":":","a":":"}}', ["/labels/a"]),
    "params": (b'{"kind":"plain","params":{},"params":{"endpoint":"/x"}}', ["/params"]),
    "a parameter": (b'{"kind":"plain","params":{"endpoint":"/x","endpoint":"/x"}}', ["/params/endpoint"]),
    "a parameter of http": (
        b'{"kind":"http","params":{"method":"GET","endpoint":"http://h.example/a","method":"GET"}}',
        ["/params/method"],
    ),
    "a field in a parameter": (
        b'{"kind":"plain","params":{"endpoint":"/x","json":[{"a~/b":1,"a~/b":{}}]}}',
        ["/params/json/0/a~0~1b"],
    ),
    "a field of a sink": (
        b'{"kind":"plain","params":{"endpoint":"/x"},"sinks":[{"kind":"plain_sink","url":"u","url":"v"}]}',
        ["/sinks/0/url"],
    ),
    "several": (
        b'{"kind":"plain","kind":"plain","params":{"endpoint":"/x","a":1,"a":1}}',
        ["/kind", "/params/a"],
    ),
    "with something else that is wrong": (b'{"kind":1,"kind":"plain","params":{"endpoint":"/x"}}', ["/kind"]),
}


@pytest.mark.parametrize(("text", "pointers"), REPEATED.values(), ids=REPEATED)
async def test_repeated_fields_are_refused_by_name(
    submissions: Submissions, text: bytes, pointers: list[str]
) -> None:
    for _ in range(3):  # the third time, from the cache of parameters
        for result in await every_result(submissions, text):
            assert isinstance(result, RefusedBody)
            assert [problem.pointer for problem in result.problems] == pointers
            assert {problem.detail for problem in result.problems} == {"this field is given more than once"}


@pytest.mark.parametrize(
    ("path", "text", "pointer"),
    [
        ("/v1/keys", b'{"role":"admin","role":"viewer"}', "/role"),
        ("/v1/signals/k", b'{"a":{"b":1,"b":2}}', "/a/b"),
        ("/v1/signals:s3", b'{"Records":[],"Records":[]}', "/Records"),
        ("/v1/deliveries:redeliver", b'{"state":"dead","limit":1,"limit":1000}', "/limit"),
        ("/v1/waits/0190c8b0-0000-7000-8000-000000000000:cancel", b'{"a":1,"a":1}', "/a"),
    ],
)
async def test_repeated_fields_of_any_other_body_are_refused(
    api: Api, path: str, text: bytes, pointer: str
) -> None:
    assert await pointers_of(await api.post(path, text)) == [pointer]


#: Characters that make a text show as another one.
DECEIVING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0x1B, 0x07, 0x9B]


@pytest.mark.parametrize("code", DECEIVING)
async def test_characters_that_deceive_readers_are_refused_in_labels_and_keys(
    submissions: Submissions, code: int
) -> None:
    text = f"a{chr(code)}b"
    fields: dict[str, Any] = {
        f"/labels/{text}": {"labels": {text: "x"}},
        "/labels/name": {"labels": {"name": text}},
        "/supersede_key": {"supersede_key": text},
        "/wake_on": {"wake_on": text},
    }
    for pointer, more in fields.items():
        for ascii_only in (True, False):
            body = json.dumps(wait(**more), ensure_ascii=ascii_only).encode()
            for result in await every_result(submissions, body):
                assert isinstance(result, RefusedBody)
                assert [problem.pointer for problem in result.problems] == [pointer]


@pytest.mark.parametrize("code", DECEIVING)
async def test_characters_that_deceive_readers_are_refused_in_names(api: Api, code: int) -> None:
    text = f"a{chr(code)}b"
    assert await pointers_of(await api.post("/v1/keys", {"role": "viewer", "namespace": text})) == [
        "/namespace"
    ]
    assert (await api.post(f"/v1/signals/{quote(text)}", {})).status == 422
