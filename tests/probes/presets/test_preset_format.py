"""The format of a preset's file, as FORMAT.md describes it, and how a state is found."""

import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from waitd.core.http.answer import Decision, Evaluation
from waitd.core.http.job_answer import JobAnswerKind
from waitd.probes import presets
from waitd.probes.cel.response import ResponseVariables
from waitd.probes.presets import schema
from waitd.probes.presets.evaluation import JobSources, shared_job_conditions
from waitd.probes.presets.states import StateItems, is_path, parse_path
from waitd.probes.presets.templates import append_query, fill_path, fill_template, fill_texts, placeholders


def test_the_format_describes_every_key_of_every_table() -> None:
    text = Path(presets.__file__).with_name("FORMAT.md").read_text("utf-8")
    tables = [
        each
        for each in vars(schema).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == schema.__name__
    ]
    names = {field.alias or name for table in tables for name, field in table.model_fields.items()}
    assert len(tables) > 10
    assert sorted(name for name in names if name not in text) == []
    block = text.partition("```toml\n")[2].partition("```")[0]
    assert {
        "connection",
        "pace",
        "request",
        "state",
        "outcome",
        "answers",
        "submit",
        "cancel",
        "golden",
    } <= set(tomllib.loads(block))


# ---------------------------------------------------------------- states


def evaluate(state: Any, body: Any, **more: Any) -> Evaluation:
    sources = JobSources(
        state, frozenset({"done", 10}), frozenset({"broken"}), frozenset({"busy", 1}), **more
    )
    return shared_job_conditions(sources).evaluate(ResponseVariables(200, {}, orjson.dumps(body), None))


STATES: list[tuple[Any, Any, Any]] = [
    ("body.a", {"a": "done"}, Decision.SUCCESS),
    ("body.a.b", {"a": {"b": "broken"}}, Decision.FAILURE),
    ("body.a[1].b", {"a": [{}, {"b": "busy"}]}, JobAnswerKind.RUNNING),
    ("body.a[1].b", {"a": [{"b": "busy"}]}, JobAnswerKind.MALFORMED),
    ("body.a[0]", {"a": {"0": "done"}}, JobAnswerKind.MALFORMED),
    ("body", "done", Decision.SUCCESS),
    ("body.a", {"a": 10}, Decision.SUCCESS),
    ("body.a", {"a": True}, JobAnswerKind.MALFORMED),
    ("body.a", {"a": 1.0}, JobAnswerKind.MALFORMED),
    ("body.a", {"a": None}, JobAnswerKind.MALFORMED),
    ("body.a", {"a": ["done"]}, JobAnswerKind.MALFORMED),
    ("body.a", {"a": "DONE"}, JobAnswerKind.UNKNOWN),
    ("body.a", {"a": 11}, JobAnswerKind.UNKNOWN),
    ("body.a", [], JobAnswerKind.MALFORMED),
    ("body.a == 'x' ? 'done' : 'busy'", {"a": "x"}, Decision.SUCCESS),
    ("body.a == 'x' ? 'done' : 'busy'", {}, JobAnswerKind.MALFORMED),
    ("size(body.a)", {"a": "ten chars!"}, Decision.SUCCESS),
]  # fmt: skip


@pytest.mark.parametrize(("state", "body", "meaning"), STATES)
def test_a_state_is_found_in_the_body_and_on_the_lists(state: str, body: Any, meaning: Any) -> None:
    evaluation = evaluate(state, body)
    assert meaning in {evaluation.decision, evaluation.job_answer}


ITEMS = StateItems("body.conditions", (("status", "True"),), "type", "busy")


@pytest.mark.parametrize(
    ("conditions", "meaning"),
    [
        (None, JobAnswerKind.RUNNING),
        ([], JobAnswerKind.RUNNING),
        ([{"type": "done", "status": "False"}], JobAnswerKind.RUNNING),
        ([{"type": "odd", "status": "True"}], JobAnswerKind.RUNNING),
        ([{"type": "done", "status": "True"}], Decision.SUCCESS),
        ([{"type": "done", "status": "True"}, {"type": "broken", "status": "True"}], Decision.FAILURE),
        (["done", 1, None], JobAnswerKind.RUNNING),
        ({"type": "done"}, JobAnswerKind.MALFORMED),
        ("done", JobAnswerKind.MALFORMED),
    ],
)
def test_a_failure_precedes_a_success_among_several_conditions(conditions: Any, meaning: Any) -> None:
    evaluation = evaluate(ITEMS, {"conditions": conditions})
    assert meaning in {evaluation.decision, evaluation.job_answer}


@pytest.mark.parametrize(
    ("body", "sources", "message"),
    [
        ({"a": "broken", "why": "x" * 1000}, {"error": "body.why"}, f"broken: {'x' * 232}"),
        ({"a": "broken"}, {"error": "body.why"}, "The state is broken."),
        ({"a": "broken", "why": 3}, {"error": "body.why"}, "The state is broken."),
        ({"a": "busy", "at": "9 %"}, {"message": "body.at"}, "9 %"),
    ],
)
def test_the_message_of_a_state(body: Any, sources: dict[str, str], message: str) -> None:
    assert evaluate("body.a", body, **sources).message == message


def test_the_payload_of_a_success() -> None:
    assert evaluate("body.a", {"a": "done", "r": [1]}, result="body.r").payload == [1]
    assert evaluate("body.a", {"a": "done"}, result="body.r").payload_omitted


def test_a_path_is_recognized_and_parsed() -> None:
    assert parse_path("body.a[0].b_c") == ("a", 0, "b_c")
    assert all(map(is_path, ("body", "body.a", "body[0]", "body.a[12].b")))
    assert not any(map(is_path, ("bodyx", "body.", "body.a + 'x'", "body['a']", "body.a[-1]", "status")))


# ---------------------------------------------------------------- placeholders


def test_placeholders_become_values_or_text_or_are_left_out() -> None:
    params = {"n": 7, "s": "a b", "t": True, "o": {"x": 1}, "none": None}
    template = {
        "n": "{n}",
        "text": "{s}-{n}-{t}",
        "o": "{o}",
        "gone": "{none}",
        "list": ["{n}", "{none}", "x"],
        "half": "{none}-x",
        "null": "{null}",
        "k": 1,
    }
    assert fill_template(template, params) == {
        "n": 7,
        "text": "a b-7-true",
        "o": {"x": 1},
        "list": [7, "x"],
        "null": None,
        "k": 1,
    }
    assert fill_template("{none}", params) is None
    assert fill_texts({"a": "{t}", "b": "{none}"}, params) == {"a": "true"}
    assert fill_path("/{s}/{n}", params) == "/a%20b/7"
    assert fill_path("{+s}", params) == "a b"
    assert append_query("/x", {"a": "b c&d"}) == "/x?a=b+c%26d"
    assert append_query("/x", {}) == "/x"
    assert sorted(placeholders(template)) == ["n", "n", "n", "none", "none", "none", "o", "s", "t"]
    with pytest.raises(ValueError, match="dot segment"):
        fill_path("/{s}", {"s": ".."})
