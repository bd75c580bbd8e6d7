"""The struct of a body against its pydantic model, the caches of the validation, and plain text."""

import json
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from api_fakes import Api, wait
from body_checks import HTTP, LoadingProbe, check, validated
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from waitd.api.server.bodies import MalformedBody, decoded, is_plain
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
from waitd.core.errors import Problem
from waitd.models import (
    DEFAULT_POKE_INTERVAL,
    MAX_KEY_LENGTH,
    MAX_LABELS,
    MAX_SINKS,
    explain_refusal,
    pydantic_model,
)

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
}
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
}


def explain(text: bytes, form: BodyForm) -> tuple[Problem, ...] | None:
    """Returns what pydantic finds wrong with a body; None if it is not JSON."""
    try:
        body = decoded(text)
    except MalformedBody:
        return None
    return tuple(explain_refusal(form.struct, body))


def validated_at_once(submissions: Submissions, text: bytes, form: BodyForm) -> ValidatedWait | RefusedBody:
    """Returns the result of validating a body, without an event loop: nothing in it waits."""
    try:
        validated(submissions, text, form).send(None)
    except StopIteration as done:
        result: ValidatedWait | RefusedBody = done.value
        return result
    raise AssertionError("the validation waited for something")


async def test_the_struct_accepts_what_its_pydantic_model_accepts(submissions: Submissions) -> None:
    accepted = malformed = 0

    @given(
        st.fixed_dictionaries(REQUIRED, optional=OPTIONAL),
        st.dictionaries(st.sampled_from([*REQUIRED, *OPTIONAL, "submit", "surprise"]), JSON, max_size=1),
        st.booleans(),
    )
    @example(dict(HTTP), {}, False)
    @settings(max_examples=1500)
    def compare(body: dict[str, Any], change: dict[str, Any], ascii_only: bool) -> None:
        nonlocal accepted, malformed
        text = json.dumps(body | change, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for form in (WAIT_BODY, BATCH_LINE):
            result = validated_at_once(submissions, text, form)
            again = validated_at_once(submissions, text, form)
            check(result, text, form)
            problems = explain(text, form)
            if problems == ():
                form.decode(text)  # the struct decodes what pydantic accepts
            else:
                malformed += 1
                assert isinstance(result, RefusedBody), text
                assert problems is None or result.problems == problems
            if isinstance(result, ValidatedWait):
                accepted += 1
                assert isinstance(again, ValidatedWait)
                assert replace(again.new, target=None) == replace(result.new, target=None)
                assert again.uncached == result.uncached

    compare()
    assert accepted > 100
    assert malformed > 100


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


LOADING = LoadingProbe()


@pytest.mark.parametrize("more", [{"probes": {"loading": LOADING}}])
async def test_a_kind_that_loads_is_prepared_before_it_parses(api: Api) -> None:
    await api.submit(kind="loading")
    assert (LOADING.prepared, LOADING.parsed) == (1, 1)


async def test_a_refused_body_is_decoded_once_for_its_explanation(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Mock(wraps=decoded)
    monkeypatch.setattr("waitd.api.submission.validation.decoded", decode)
    text = orjson.dumps(wait(nope=1, timeout=-1))
    with pytest.raises(RefusedBody) as refused:
        await submissions.validate(text, "default", "key")
    assert {problem.pointer for problem in refused.value.problems} == {"/nope", "/timeout"}
    assert refused.value.replay is not None
    decode.assert_called_once_with(text)


async def test_the_caches_are_bounded(submissions: Submissions) -> None:
    for n in range(CACHED_OPTIONS + 10):
        sinks = [{"kind": "plain_sink", "url": str(n) if n else "u" * CACHED_LENGTH}]
        await submissions.validate(orjson.dumps(wait(sinks=sinks, timeout=n + 1)), "default")
    assert submissions._options.check.cache_info().currsize == CACHED_OPTIONS
    cached = submissions.sinks._parse_each_cached.cache_info()
    assert cached.currsize == CACHED_OPTIONS + 9, "the long one is not cached"
    assert cached.maxsize == CACHED_SINKS


@pytest.mark.parametrize("text", [b'"\x7f"', b'"\\u000a"', "é".encode(), "\u2028".encode(), "\x85".encode()])
def test_text_with_escapes_or_beyond_ascii_is_not_plain(text: bytes) -> None:
    assert not is_plain(text)


def test_printable_ascii_is_plain() -> None:
    assert is_plain(bytes(set(range(32, 127)) - {ord("\\")}))
