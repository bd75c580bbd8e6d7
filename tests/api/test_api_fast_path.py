"""The short way against the close look: it takes nothing that the other refuses, and comes to the same."""

import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import orjson
import pytest
from api_fakes import Api, PlainProbe, wait
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from waitd.api.server.bodies import MAX_DEPTH, decoded
from waitd.api.submission.fast_path import Body, Line
from waitd.api.submission.sinks import REMEMBERED, REMEMBERED_LENGTH, SinkTargets
from waitd.api.submission.texts import is_plain
from waitd.api.submission.validation import Submissions
from waitd.core.errors import InvalidInput
from waitd.models import (
    MAX_KEY_LENGTH,
    MAX_LABEL_NAME,
    MAX_LABEL_VALUE,
    MAX_LABELS,
    MAX_SINKS,
    BatchLine,
    WaitRequest,
)
from waitd.ports import NewWait
from waitd.probes.http.probe import HttpProbe


class Loading(PlainProbe):
    """Has something to load before it can check."""

    loaded = False

    async def prepare(self, params: Any) -> None:
        self.loaded = True

    def is_prepared(self, params: Any) -> bool:
        return self.loaded


class Paced(PlainProbe):
    """Has a pace of its own."""

    default_poke_interval = 300.0
    min_poke_interval = 30.0


@pytest.fixture
async def submissions(api: Api) -> AsyncIterator[Submissions]:
    """With a real kind that remembers, one that does not, and one that loads."""
    api.connections.cached.add("cached")
    async with HttpProbe(api.connections, secret_headers=("authorization",)) as http:  # type: ignore[arg-type]  # it is asked for nothing
        probes: dict[str, Any] = {"plain": PlainProbe(), "http": http, "loading": Loading(), "paced": Paced()}
        services = replace(api.services, probes=probes)
        yield Submissions(services, SinkTargets(services.sinks))


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it returns; it waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def _close(submissions: Submissions, text: bytes, key: str | None, *, line: bool) -> NewWait | None:
    """What a close look takes; None: nothing, or it has to ask for a connection."""
    try:
        raw = decoded(text)
        draft = _now(
            submissions.batch_draft(raw, "default") if line else submissions.draft(raw, "default", key)
        )
    except InvalidInput:
        return None
    return None if draft.unseen else draft.new


def _taken(submissions: Submissions, text: bytes, key: str | None = None) -> int:
    """How often the short way took a text, of three; each time with what a close look says."""
    usual, times = submissions.usual, 0
    for draft, line in (
        (usual.draft(text, "default", key), False),
        (usual.line(text, "default", plain=is_plain(text)), True),
        (usual.line(text, "default", plain=False), True),
    ):
        if draft is not None:
            close = _close(submissions, text, key, line=line)
            assert close is not None, text
            assert structs.replace(draft.new, target=None) == structs.replace(close, target=None)
            assert draft.new.text == close.text
            assert draft.unseen == ()
            times += 1
    return times


HTTP = {"kind": "http", "params": {"endpoint": "http://h.example/jobs/1"}}
#: Bodies with one thing that is odd, or at a limit, and how often the short way takes them.
ODD: dict[str, tuple[Any, int]] = {
    "nothing": (wait(), 3),
    "http": (HTTP, 3),
    "http, an endpoint of its own": (wait(kind="http", params={"endpoint": "http://h.example/a.b"}), 3),
    "a cached connection": (wait(params={"endpoint": "/x", "http_conn_id": "cached"}), 3),
    "an uncached one": (wait(params={"endpoint": "/x", "http_conn_id": "other"}), 0),
    "an uncached one of a sink": (wait(sinks=[{"kind": "plain_sink", "conn_id": "other"}]), 0),
    "a number that is true": (wait(poke_interval=True), 0),
    "a flag that is a number": (wait(soft_fail=1), 0),
    "a number as text": (wait(timeout="5"), 0),
    "zero": (wait(poke_interval=0), 0),
    "minus zero": (wait(timeout=-0.0), 0),
    "too often": (wait(poke_interval=0.01), 0),
    "too long": (wait(timeout=1e300), 0),
    "a pace of its own": (wait(kind="paced"), 3),
    "too often for its kind": (wait(kind="paced", poke_interval=29), 0),
    "an unknown field": (wait(surprise=None), 0),
    "an unknown kind": (wait(kind="fax"), 0),
    "no kind": ({"params": {"endpoint": "/x"}}, 0),
    "a kind that is none": (wait(kind=None), 0),
    "params that are none": (wait(params=None), 0),
    "params that are a list": (wait(params=[]), 0),
    "sinks that are none": (wait(sinks=None), 0),
    "a sink that is none": (wait(sinks=[None]), 0),
    "a sink without a kind": (wait(sinks=[{"url": "u"}]), 0),
    "a sink of a strange kind": (wait(sinks=[{"kind": ["plain_sink"]}]), 0),
    "too many sinks": (wait(sinks=[{"kind": "plain_sink"}] * (MAX_SINKS + 1)), 0),
    "a long sink": (wait(sinks=[{"kind": "plain_sink", "url": "u" * REMEMBERED_LENGTH}]), 3),
    "labels at the limit": (wait(labels={f"{n:063}": "é" * MAX_LABEL_VALUE for n in range(MAX_LABELS)}), 3),
    "too many labels": (wait(labels={f"{n}": "" for n in range(MAX_LABELS + 1)}), 0),
    "a label without a name": (wait(labels={"": "x"}), 0),
    "a label with a long name": (wait(labels={"n" * (MAX_LABEL_NAME + 1): "x"}), 0),
    "a long label": (wait(labels={"n": "x" * (MAX_LABEL_VALUE + 1)}), 0),
    "a label that is a number": (wait(labels={"n": 1}), 0),
    **{f"a label with {ord(c):x}": (wait(labels={"n": c}), 0) for c in "\0\n\x7f\x85\u2028"},
    **{f"a name with {ord(c):x}": (wait(labels={c: "n"}), 0) for c in "\0\n\x7f\x85\u2028"},
    **{f"a key with {ord(c):x}": (wait(supersede_key=c), 0) for c in "\0\n\x7f\x85\u2028"},
    "a label with a space that prints nothing": (wait(labels={"n": "\xa0"}), 0),
    "an empty key": (wait(wake_on=""), 0),
    "a key at the limit": (wait(wake_on="k" * MAX_KEY_LENGTH), 3),
    "a long key": (wait(supersede_key="k" * (MAX_KEY_LENGTH + 1)), 0),
    "a job to submit": (wait(submit={"endpoint": "/y"}), 0),
    "a key of its own": (wait(idempotency_key="k"), 2),
    "a key that is a number": (wait(idempotency_key=1), 0),
    "a list": ([], 0),
    "deep": (wait(params={"endpoint": "/x", "json": json.loads("[" * 61 + "]" * 61)}), 3),
    "too deep": (wait(params={"endpoint": "/x", "json": json.loads("[" * 63 + "]" * 63)}), 0),
    "a sink too deep": (
        wait(sinks=[{"kind": "plain_sink", "url": json.loads("[" * 62 + "]" * 62)}]),
        0,
    ),
}


@pytest.mark.parametrize(("body", "times"), ODD.values(), ids=ODD)
async def test_what_is_odd_is_left_to_a_close_look(submissions: Submissions, body: Any, times: int) -> None:
    for _ in range(2):  # what is remembered of the first is not taken for the second
        assert _taken(submissions, orjson.dumps(body)) == times
        assert _taken(submissions, orjson.dumps(HTTP)) == 3


TEXTS = {
    "another line end": b'{"kind":"plain","params":{"endpoint":"/x"}}\r',
    "a field twice": b'{"kind":"http","kind":"plain","params":{},"params":{"endpoint":"/x"}}',
    "a label twice": b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"1","a":"2"}}',
    "letters in disguise": b'{"k\\u0069nd":"plain","params":{"endpoint":"\\u002fx"},"labels":{"\\u0061":"\\n"}}',
    "half a pair": b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"\\ud800"}}',
    "half a pair in params": b'{"kind":"plain","params":{"endpoint":"/\\ud800"}}',
    "no UTF-8": b'{"kind":"plain","params":{"endpoint":"/x"},"labels":{"a":"\xff"}}',
    "no UTF-8 in params": b'{"kind":"plain","params":{"endpoint":"\xff"}}',
    "no UTF-8 in sinks": b'{"kind":"plain","params":{"endpoint":"/x"},"sinks":[{"kind":"plain_sink","url":"\xff"}]}',
    "a large number": b'{"kind":"plain","params":{"endpoint":"/x"},"timeout":100000000000000000000000}',
    "a larger one": b'{"kind":"plain","params":{"endpoint":"/x"},"timeout":1e400}',
    "a large number in params": b'{"kind":"plain","params":{"endpoint":"/x","n":100000000000000000000000}}',
    "a larger one in params": b'{"kind":"plain","params":{"endpoint":"/x","n":1e400}}',
    "numbers as they are written": b'{"kind":"plain","params":{"endpoint":"/x","a":1.0,"b":1,"c":1e0},"timeout":6e1}',
    "no UTF-8 in params that are void": b'{"kind":"plain","params":{"a":"\xff"},"params":{"endpoint":"/x"}}',
    "no UTF-8 in sinks that are void": b'{"kind":"plain","params":{"endpoint":"/x"},"sinks":["\xff"],"sinks":[]}',
    "another field's name": b'{"kind":"http","params":{"endpoint":"http://h.example/\\u0078","endpointx":[]}}',
    "another field's name that fits": b'{"kind":"http","params":{"endpoint":"http://h.example/\\u0078","endpointx":"http://h.example/"}}',
    "two values": b'{"kind":"plain","params":{"endpoint":"/x"}}{}',
    "nothing": b"",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_however_it_is_written_it_comes_to_the_same(submissions: Submissions, text: bytes) -> None:
    for _ in range(3):
        _taken(submissions, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
SINK = st.sampled_from(
    [
        {"kind": "plain_sink"},
        {"kind": "plain_sink", "url": "u"},
        {"kind": "dag_sink", "dag_id": "d"},
        {"kind": "fax"},
    ]
)
NEEDED = {
    "kind": st.sampled_from(["plain", "http"]),
    "params": st.fixed_dictionaries(
        {"endpoint": st.sampled_from(["http://h.example/1", "http://h.example/2", "/x"])},
        optional={"json": JSON, "http_conn_id": st.sampled_from(["cached", "other", None])},
    ),
}  # fmt: skip
GOOD = {
    "poke_interval": st.sampled_from([1, 1.0, 60]),
    "timeout": st.sampled_from([60, 60.5, None]),
    "max_wait": st.sampled_from([60, 0.1, None]),
    "soft_fail": st.booleans(),
    "sinks": st.lists(SINK, max_size=3),
    "labels": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    "supersede_key": st.none() | st.text(max_size=3),
    "wake_on": st.none() | st.text(max_size=3),
    "idempotency_key": st.none() | st.text(max_size=3),
}  # fmt: skip


async def test_whatever_comes_the_two_agree(submissions: Submissions) -> None:
    taken = 0

    @given(
        st.fixed_dictionaries(NEEDED, optional=GOOD),
        st.dictionaries(st.sampled_from([*NEEDED, *GOOD, "submit", "surprise"]), JSON, max_size=1),
        st.booleans(),
        st.none() | st.text(min_size=1, max_size=3),
    )
    @example(dict(HTTP), {}, False, None)
    @settings(max_examples=1500, deadline=None)
    def compare(body: dict[str, Any], change: dict[str, Any], ascii_only: bool, key: str | None) -> None:
        nonlocal taken
        text = json.dumps(body | change, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        taken += _taken(submissions, text, key) > 0

    compare()
    assert taken > 100, "they were compared"


def test_the_fields_are_those_of_the_models() -> None:
    assert set(Body.__struct_fields__) == set(WaitRequest.model_fields)
    assert set(Line.__struct_fields__) == set(BatchLine.model_fields)


async def test_a_kind_that_loads_is_read_the_short_way_once_it_has(submissions: Submissions) -> None:
    body = wait(kind="loading")
    assert _taken(submissions, orjson.dumps(body)) == 0
    await submissions.draft(body, "default")
    assert _taken(submissions, orjson.dumps(body)) == 3


async def test_only_so_much_is_remembered(submissions: Submissions) -> None:
    sinks = [{"kind": "plain_sink", "url": "u" * REMEMBERED_LENGTH}]
    assert _taken(submissions, orjson.dumps(wait(sinks=sinks))) == 3
    known = submissions.usual._sinks._known.cache_info()
    assert (known.currsize, known.maxsize) == (0, REMEMBERED)


@pytest.mark.parametrize("text", [b'"\x7f"', b'"\\u000a"', "é".encode(), "\u2028".encode(), "\x85".encode()])
def test_what_may_be_something_else_than_it_looks_is_not_plain(text: bytes) -> None:
    assert not is_plain(text)


def test_printable_ascii_is_plain() -> None:
    assert is_plain(bytes(set(range(32, 127)) - {ord("\\")}))


assert MAX_DEPTH == 64, "what is deep above follows from it"
