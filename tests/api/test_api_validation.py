"""The one path of a body: what the struct accepts is what its explanation accepts, whatever was
cached before.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import orjson
import pytest
from api_fakes import Api, PlainProbe, wait
from hypothesis import example, given, settings
from hypothesis import strategies as st

from waitd.api.server.bodies import MAX_DEPTH, decoded, is_plain
from waitd.api.submission.options import CACHED_OPTIONS
from waitd.api.submission.sinks import CACHED_LENGTH, CACHED_SINKS
from waitd.api.submission.validation import (
    BATCH_LINE,
    WAIT_BODY,
    BodyForm,
    RefusedBody,
    Submissions,
    ValidatedWait,
)
from waitd.core.errors import InvalidInput
from waitd.models import (
    CONTROL_CHARACTERS,
    DEFAULT_POKE_INTERVAL,
    MAX_KEY_LENGTH,
    MAX_LABEL_NAME,
    MAX_LABEL_VALUE,
    MAX_LABELS,
    MAX_SINKS,
    explain_refusal,
    parsed_wait,
    pydantic_model,
)
from waitd.probes.http.probe import HttpProbe


class LoadingProbe(PlainProbe):
    """Loads something before it can parse."""

    loaded = 0

    async def prepare(self, params: Any) -> None:
        self.loaded += 1


class PacedProbe(PlainProbe):
    """Has its own limits of the poke interval."""

    default_poke_interval = 300.0
    min_poke_interval = 30.0


@pytest.fixture
async def submissions(api: Api) -> AsyncIterator[Submissions]:
    """With a real kind that caches parameters, one that does not, one that loads and one with a
    pace.
    """
    api.connections.cached.add("cached")
    async with HttpProbe(api.connections, secret_headers=("authorization",)) as http:
        probes: dict[str, Any] = {
            "plain": PlainProbe(),
            "http": http,
            "loading": LoadingProbe(),
            "paced": PacedProbe(),
        }
        services = replace(api.services, probes=probes)
        yield Submissions(services)


async def validated(
    submissions: Submissions, text: bytes, form: BodyForm = WAIT_BODY, *, plain: bool | None = None
) -> ValidatedWait | RefusedBody:
    """The result of validating a body."""
    try:
        return await submissions.validate(text, "default", form=form, plain=plain)
    except RefusedBody as error:
        return error


def at_once(submissions: Submissions, text: bytes, form: BodyForm) -> ValidatedWait | RefusedBody:
    """The same without an event loop; nothing in it waits."""
    try:
        validated(submissions, text, form).send(None)
    except StopIteration as done:
        result: ValidatedWait | RefusedBody = done.value
        return result
    raise AssertionError("it waits")


def fields_of(new: Any) -> tuple[Any, ...]:
    """Everything about a wait but its parsed target."""
    return (new.namespace, new.spec, new.text, new.idempotency_key, new.body_digest)


async def results(submissions: Submissions, text: bytes) -> list[ValidatedWait | RefusedBody]:
    """The results of a body as a single submit, as a batch line, and as a line that is said not to
    be plain.

    Those that are accepted are held against pydantic's reading of the body.
    """
    every = [
        await validated(submissions, text),
        await validated(submissions, text, BATCH_LINE),
        await validated(submissions, text, BATCH_LINE, plain=False),
    ]
    for result, form in zip(every, (WAIT_BODY, BATCH_LINE, BATCH_LINE), strict=True):
        check(result, text, form)
    return every


def check(result: ValidatedWait | RefusedBody, text: bytes, form: BodyForm) -> None:
    """Holds an accepted body against pydantic's reading of it, and a refusal against the
    explanation.
    """
    if isinstance(result, RefusedBody):
        assert result.problems
        return
    body = decoded(text)
    expected, spec = parsed_wait(body, form.struct), result.new.spec
    assert explain_refusal(form.struct, body) == ()
    assert spec.params == body.get("params", {})
    assert list(spec.sinks) == body.get("sinks", [])
    assert (spec.kind, spec.labels) == (expected.kind, expected.labels)
    assert (spec.exponential_backoff, spec.max_wait) == (expected.exponential_backoff, expected.max_wait)
    assert (spec.soft_fail, spec.silent_fail) == (expected.soft_fail, expected.silent_fail)
    assert (spec.supersede_key, spec.wake_on) == (expected.supersede_key, expected.wake_on)
    assert spec.submit == body.get("submit")
    if "poke_interval" in body:
        assert spec.poke_interval == expected.poke_interval
    if expected.timeout is not None:
        assert spec.timeout == expected.timeout
    for name in ("poke_interval", "timeout"):
        assert isinstance(getattr(spec, name), float)
    assert result.new.idempotency_key == getattr(expected, "idempotency_key", None)
    texts = [*spec.labels, *spec.labels.values(), spec.supersede_key or "", spec.wake_on or ""]
    assert not any(CONTROL_CHARACTERS.search(one) for one in texts)


HTTP = {"kind": "http", "params": {"endpoint": "http://h.example/jobs/1"}}
#: Bodies with one thing that is unusual or at a limit, and how many of the three ways to send them
#: are accepted.
UNUSUAL: dict[str, tuple[Any, int]] = {
    "nothing": (wait(), 3),
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
    "a kind with a pace": (wait(kind="paced"), 3),
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
    "deep": (wait(params={"endpoint": "/x", "json": json.loads("[" * 61 + "]" * 61)}), 3),
    "too deep": (wait(params={"endpoint": "/x", "json": json.loads("[" * 63 + "]" * 63)}), 0),
    "a sink that is too deep": (
        wait(sinks=[{"kind": "plain_sink", "url": json.loads("[" * 62 + "]" * 62)}]),
        0,
    ),
    "a job that is too deep": (
        wait(kind="http", submit={"endpoint": "/x", "json": json.loads("[" * 63 + "]" * 63)}),
        0,
    ),
}


@pytest.mark.parametrize(("body", "accepted"), UNUSUAL.values(), ids=UNUSUAL)
async def test_unusual_bodies_are_accepted_or_refused_whatever_is_cached(
    submissions: Submissions, body: Any, accepted: int
) -> None:
    for _ in range(2):  # the second time, from the caches
        every = await results(submissions, orjson.dumps(body))
        assert sum(isinstance(result, ValidatedWait) for result in every) == accepted
        assert all(
            isinstance(result, ValidatedWait) for result in await results(submissions, orjson.dumps(HTTP))
        )


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
    "nesting without end": (b'{"kind":"plain","params":' + b"[" * 30_000 + b"]" * 30_000 + b"}", False),
    "nesting without end in an unknown field": (
        b'{"kind":"plain","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        False,
    ),
}


@pytest.mark.parametrize(("text", "accepted"), TEXTS.values(), ids=TEXTS)
async def test_texts_that_decoders_read_differently(
    submissions: Submissions, text: bytes, accepted: bool
) -> None:
    for _ in range(3):  # the third time, from the cache of parameters
        every = await results(submissions, text)
        assert [isinstance(result, ValidatedWait) for result in every] == [accepted] * 3


async def test_a_repeated_field_must_be_right_each_time(submissions: Submissions) -> None:
    """The struct checks both values; pydantic sees the last one only, so the decoder's own words
    are shown.
    """
    result = await validated(submissions, b'{"kind":1,"kind":"plain","params":{"endpoint":"/x"}}')
    assert isinstance(result, RefusedBody)
    [problem] = result.problems
    assert "$.kind" in problem.detail


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
REQUIRED = {
    "kind": st.sampled_from(["plain", "http"]),
    "params": st.fixed_dictionaries(
        {"endpoint": st.sampled_from(["http://h.example/1", "http://h.example/2", "/x"])},
        optional={"json": JSON, "http_conn_id": st.sampled_from(["cached", "other", None])},
    ),
}  # fmt: skip
OPTIONAL = {
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


def is_explained(text: bytes, form: BodyForm) -> bool:
    """Whether the text is not JSON, or pydantic refuses its form."""
    try:
        return bool(explain_refusal(form.struct, decoded(text)))
    except InvalidInput:
        return True


async def test_the_struct_accepts_what_its_pydantic_model_accepts(submissions: Submissions) -> None:
    accepted = malformed = 0

    @given(
        st.fixed_dictionaries(REQUIRED, optional=OPTIONAL),
        st.dictionaries(st.sampled_from([*REQUIRED, *OPTIONAL, "submit", "surprise"]), JSON, max_size=1),
        st.booleans(),
    )
    @example(dict(HTTP), {}, False)
    @settings(max_examples=1500, deadline=None)
    def compare(body: dict[str, Any], change: dict[str, Any], ascii_only: bool) -> None:
        nonlocal accepted, malformed
        text = json.dumps(body | change, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for form in (WAIT_BODY, BATCH_LINE):
            result = at_once(submissions, text, form)
            again = at_once(submissions, text, form)
            check(result, text, form)
            if is_explained(text, form):
                malformed += 1
                assert isinstance(result, RefusedBody), text
                raw = None if not decodes(text) else explain_refusal(form.struct, decoded(text))
                assert raw is None or result.problems == tuple(raw)
            else:
                assert decodes(text, form), "what pydantic accepts, the struct decodes"
            accepted += isinstance(result, ValidatedWait)
            if isinstance(result, ValidatedWait):
                assert isinstance(again, ValidatedWait)
                assert fields_of(again.new) == fields_of(result.new)
                assert again.uncached == result.uncached

    compare()
    assert accepted > 100
    assert malformed > 100


def decodes(text: bytes, form: BodyForm | None = None) -> bool:
    """Whether text is JSON, or (with `form`) decodes into the struct."""
    try:
        if form is None:
            decoded(text)
        else:
            form.decode(text)
    except (InvalidInput, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


@pytest.mark.parametrize("form", [WAIT_BODY, BATCH_LINE], ids=["wait", "line"])
def test_the_pydantic_model_has_the_fields_of_the_struct(form: BodyForm) -> None:
    model = pydantic_model(form.struct)
    assert set(model.model_fields) == set(form.struct.__struct_fields__)
    assert [name for name, field in model.model_fields.items() if field.is_required()] == ["kind"]
    properties = model.model_json_schema()["properties"]
    assert properties["poke_interval"]["default"] == DEFAULT_POKE_INTERVAL
    assert properties["poke_interval"]["exclusiveMinimum"] == 0
    assert properties["labels"]["maxProperties"] == MAX_LABELS
    assert properties["sinks"]["maxItems"] == MAX_SINKS
    assert properties["wake_on"]["anyOf"][0]["maxLength"] == MAX_KEY_LENGTH


async def test_a_kind_that_loads_is_prepared_before_it_parses(api: Api) -> None:
    probe = LoadingProbe()
    services = replace(api.services, probes={"loading": probe})
    await Submissions(services).validate(orjson.dumps(wait(kind="loading")), "default")
    assert (probe.loaded, probe.parsed) == (1, 1)


async def test_a_refused_body_is_decoded_once_for_its_explanation(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[bytes] = []

    def counted(text: bytes) -> Any:
        texts.append(text)
        return decoded(text)

    monkeypatch.setattr("waitd.api.submission.validation.decoded", counted)
    text = orjson.dumps(wait(nope=1, timeout=-1))
    with pytest.raises(RefusedBody) as refused:
        await submissions.validate(text, "default", "key")
    assert {problem.pointer for problem in refused.value.problems} == {"/nope", "/timeout"}
    assert refused.value.replay is not None
    assert texts == [text]


async def test_the_caches_are_bounded(submissions: Submissions) -> None:
    for n in range(CACHED_OPTIONS + 10):
        sinks = [{"kind": "plain_sink", "url": str(n) if n else "u" * CACHED_LENGTH}]
        await submissions.validate(orjson.dumps(wait(sinks=sinks, timeout=n + 1)), "default")
    options = submissions._options.check.cache_info()
    assert options.currsize == CACHED_OPTIONS
    cached = submissions.sinks._parse_each_cached.cache_info()
    assert (cached.currsize, cached.maxsize) == (
        CACHED_OPTIONS + 9,
        CACHED_SINKS,
    )  # the long one is not cached


@pytest.mark.parametrize("text", [b'"\x7f"', b'"\\u000a"', "é".encode(), "\u2028".encode(), "\x85".encode()])
def test_text_with_escapes_or_beyond_ascii_is_not_plain(text: bytes) -> None:
    assert not is_plain(text)


def test_printable_ascii_is_plain() -> None:
    assert is_plain(bytes(set(range(32, 127)) - {ord("\\")}))


assert MAX_DEPTH == 64, "the depths above follow from it"
