"""Whatever CEL is accepted can be asked, in every place where an expression stands."""

import pickle
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from time import thread_time
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import pytest
from anyio import CapacityLimiter
from cel_grammar import CelGrammar, json_value
from fuzzing import Fuzz, mutated

from waitd.core.errors import InvalidInput
from waitd.core.http.answer import AnswerFacts, CredentialsRefused
from waitd.core.http.job_answer import JobAnswerKind
from waitd.core.waits.verdict import Failure, Success, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, record_verdict
from waitd.probes.cel.conditions import Conditions
from waitd.probes.cel.expressions import (
    INLINE_COST,
    CelEnvironment,
    ConditionSources,
    ErrorValue,
    replace_json_nul,
)
from waitd.probes.cel.files import FILES_ENV, unmet_check
from waitd.probes.cel.response import RESPONSE_ENV, ResponseVariables
from waitd.probes.http.params import HttpTarget, parse_target
from waitd.probes.http.submit import submit_request
from waitd.probes.presets.evaluation import LANGUAGE, AnswerRule, JobSources, shared_job_conditions
from waitd.probes.s3.params import key_target
from waitd.probes.signal import SIGNAL_ENV, SignalProbe, evaluate_signals
from waitd.probes.sql.evaluation import ROWS_ENV, evaluate_rows
from waitd.probes.sql.params import sql_target
from waitd.probes.sql.rows import SelectedRows
from waitd.probes.submit.handles import SubmitResponse, evaluate_handle, evaluate_refusal
from waitd.probes.submit.plan import HANDLE_ENV
from waitd.stores.codec import decode_progress, encode_progress

BODY = ("body", "body.a", "body['b']", "body.a.b", "body.list", "body[0]")
RESPONSE = {
    "int": ("status", ".status"),
    "map": ("headers",),
    "string": ("headers['x-a']", "text"),
    "dyn": BODY,
}
CelVariables = Mapping[str, tuple[str, ...]]
VARIABLES: dict[str, tuple[CelEnvironment, CelVariables]] = {
    "response": (RESPONSE_ENV, RESPONSE),
    "handle": (HANDLE_ENV, {**RESPONSE, "string": (*RESPONSE["string"], "key")}),
    "preset": (LANGUAGE, {**RESPONSE, "dyn": (*BODY, "params.a"), "map": ("headers", "params")}),
    "signal": (SIGNAL_ENV, {"dyn": ("payload", "payload.a", "payload['b']", "payload.a.b")}),
    "rows": (ROWS_ENV, {"list": ("rows",), "map": ("rows[0]",), "dyn": ("rows[0].a", "rows[1]['b']")}),
    "files": (
        FILES_ENV,
        {"list": ("files",), "map": ("files[0]",), "dyn": ("files[0].Size", "files[0].Key")},
    ),
}
GRAMMARS = {name: CelGrammar(variables) for name, (_, variables) in VARIABLES.items()}
#: An evaluation in the loop may take this much CPU, in seconds: 5 ms are meant; machines differ.
INLINE_SECONDS = 0.1
LIMITER = CapacityLimiter(1)


def response(random: Random) -> ResponseVariables:
    value = json_value(random)
    raw = random.choice((orjson.dumps(value), orjson.dumps(value), b"", b"\xff\x00done", None))
    headers = {"x-a": random.choice(("", "done", "é"))} if random.random() < 0.8 else {}
    return ResponseVariables(random.choice((200, 204, 404, 500)), headers, raw, None)


def variables_of(name: str, random: Random) -> Any:
    match name:
        case "response":
            return response(random)
        case "handle":
            return SubmitResponse.from_response(response(random), "key")
        case "preset":
            answer = response(random)
            known = {each: getattr(answer, each) for each in ("status", "headers", "body", "text")}
            return SimpleNamespace(**known, raw=answer.raw, params={"a": readable(json_value(random))})
        case "signal":
            return SimpleNamespace(payload=readable(json_value(random)))
        case "rows":
            return SimpleNamespace(rows=[{"a": readable(json_value(random))}])
    return SimpleNamespace(files=readable(files(random)))


def readable(value: Any) -> Any:
    """The value as expressions see it."""
    return orjson.loads(replace_json_nul(orjson.dumps(value)))


def files(random: Random) -> list[dict[str, Any]]:
    return [
        {"Key": random.choice(("a", "a\0b", "é")), "Size": random.choice((0, 2**63 - 1))}
        for _ in range(random.randrange(3))
    ]


@pytest.mark.parametrize("name", VARIABLES)
def test_every_accepted_expression_has_a_value(name: str, fuzz: Fuzz) -> None:
    """It has one fast and slowly, pruned and whole, in this process and sent to another."""
    environment, _ = VARIABLES[name]
    accepted = 0
    for random in fuzz.rounds():
        source = GRAMMARS[name].expression(random, random.choice(("bool", "bool", "string", "any")))
        if random.random() < 0.1:
            source = mutated(random, source.encode()).decode("utf-8", "surrogateescape")
        try:
            expression = environment.compile(source)
        except ValueError:
            continue
        accepted += 1
        variables = variables_of(name, random)
        whole_data = vars_of(variables, expression.names)
        size = len(orjson.dumps(whole_data))
        fits = expression.cost(expression.weight(variables, size), size) <= INLINE_COST
        if not fits and random.random() < 0.9:
            continue
        started = thread_time()
        value = expression.evaluate(variables)
        assert not fits or thread_time() - started < INLINE_SECONDS, source
        assert not isinstance(value, ErrorValue) or len(value) <= 120, source
        if expression.fast_path is not None:
            fast = expression.fast_path(variables)
            expression.fast_path = None
            slow = expression.evaluate(variables)
            environment.compile.cache_clear()
            assert fast is None or fast is slow, (source, whole_data)
        if isinstance(value, bool):
            whole = expression._compiled.eval(data=whole_data).value()
            assert whole is value, (source, whole_data)
    assert accepted > fuzz.count // 20 or fuzz.count < 100


def vars_of(variables: Any, names: Any) -> dict[str, Any]:
    return {name: getattr(variables, name) for name in names}


class Place(NamedTuple):
    """A place of an expression.

    Attributes:
        name: the variables there.
        submit: submits the expression; raises InvalidInput that points at it.
        ask: returns the verdict of a poke.
    """

    name: str
    pointer: str
    submit: Callable[[str], Any]
    ask: Callable[[str, Any, Random], Awaitable[Any]]


def parse_http(params: Mapping[str, Any]) -> HttpTarget:
    return parse_target(params, namespace="default", secret_headers=(), known=None)


def http_place(field: str) -> Place:
    def submit(source: str) -> Any:
        return parse_http({"endpoint": "http://a", field: source})

    async def ask(source: str, target: Any, random: Random) -> Any:
        conditions: Conditions = target.conditions
        answer = response(random)
        conditions.fits_inline(answer)
        evaluation = conditions.evaluate(answer)
        again = pickle.loads(pickle.dumps(conditions)).evaluate(pickle.loads(pickle.dumps(answer)))
        assert repr(pickle.loads(pickle.dumps(evaluation))) == repr(again), source
        return conditions.verdict(AnswerFacts(answer.status), evaluation)

    return Place("response", f"/{field}", submit, ask)


def signal_place(field: str) -> Place:
    def submit(source: str) -> Any:
        return SignalProbe().parse({"key": "k", field: source}, namespace="default")

    async def ask(_: str, target: Any, random: Random) -> Any:
        return evaluate_signals(target.conditions, [json_value(random), json_value(random)])

    return Place("signal", f"/{field}", submit, ask)


def sql_place(field: str) -> Place:
    def submit(source: str) -> Any:
        return sql_target({"conn_id": "db", "sql": "SELECT 1", field: source}, namespace="default")

    async def ask(_: str, target: Any, random: Random) -> Any:
        rows = [{"a": json_value(random)} for _ in range(random.randrange(3))]
        return evaluate_rows(target.conditions, SelectedRows(rows, len(orjson.dumps(rows)), False))

    return Place("rows", f"/{field}", submit, ask)


def check_place() -> Place:
    def submit(source: str) -> Any:
        return key_target({"bucket_key": "s3://bucket/a", "check": source}, namespace="default")

    async def ask(source: str, _: Any, random: Random) -> Any:
        assert isinstance(await unmet_check(source, files(random), LIMITER), str | None)

    return Place("files", "/check", submit, ask)


def submit_place(field: str) -> Place:
    adopts = field == "adopt/handle"

    def submit(source: str) -> Any:
        call: dict[str, Any] = {"endpoint": "http://a/jobs", "handle": "body.id"}
        call |= {"adopt": {"endpoint": "http://a/jobs", "handle": source}} if adopts else {field: source}
        params = {"endpoint": "http://a/jobs/{handle}"}
        return submit_request(call, params, namespace="default", check=parse_http, secret_headers=())

    async def ask(source: str, _: Any, random: Random) -> Any:
        answer = SubmitResponse.from_response(response(random), "key")
        if field == "message":
            assert isinstance(await evaluate_refusal(source, answer, LIMITER), str | None)
        else:
            handle = await evaluate_handle(source, answer, LIMITER)
            stored = handle if isinstance(handle, ErrorValue) else orjson.loads(orjson.dumps(handle))
            assert stored == handle, source

    return Place("handle", f"/submit/{field}", submit, ask)


def preset_place(field: str) -> Place:
    """Presets are loaded from files; `find_mistakes` checks them by these types."""
    types = {"state": {"STRING", "INT"}, "when": {"BOOL"}, "result": None}

    def submit(source: str) -> Any:
        try:
            type_name = LANGUAGE.compile(source).type_name
        except ValueError as error:
            raise InvalidInput.at(f"/{field}", str(error)) from None
        allowed = types.get(field, {"STRING"})
        if allowed is not None and type_name not in {*allowed, "DYN"}:
            raise InvalidInput.at(f"/{field}", type_name)
        more: dict[str, Any] = {field: source} if field not in ("state", "when") else {}
        return JobSources(
            source if field == "state" else "body.a",
            success=frozenset(("done",)),
            failure=frozenset(("a",)),
            running=frozenset(("b", 1)),
            answers=(AnswerRule(source, JobAnswerKind.NOT_NOW),) if field == "when" else (),
            params=b'{"a":[1,{"a":null}]}',
            **more,
        )

    async def ask(_: str, sources: Any, random: Random) -> Any:
        conditions, answer = shared_job_conditions(sources), response(random)
        conditions.fits_inline(answer)
        return conditions.verdict(AnswerFacts(answer.status), conditions.evaluate(answer))

    return Place("preset", f"/{field}", submit, ask)


CONDITIONS = ConditionSources._fields
PLACES = [
    *(make(field) for make in (http_place, signal_place, sql_place) for field in CONDITIONS),
    check_place(),
    *map(submit_place, ("handle", "message", "adopt/handle")),
    *map(preset_place, ("state", "when", "error", "message", "refusal", "result")),
]


async def test_every_place_refuses_an_expression_or_has_a_verdict(fuzz: Fuzz) -> None:
    asked = 0
    for random in fuzz.rounds():
        place = random.choice(PLACES)
        source = GRAMMARS[place.name].expression(random, random.choice(("bool", "string", "any")), 3)
        try:
            target = place.submit(orjson.loads(orjson.dumps(source)))
        except InvalidInput as error:
            pointers = [problem.pointer for problem in error.problems]
            assert pointers == [place.pointer], source
            continue
        if VARIABLES[place.name][0].compile(source).cost(500, 100) > INLINE_COST:
            continue  # a worker's work
        asked += 1
        verdict = await place.ask(source, target, random)
        if isinstance(verdict, CredentialsRefused):
            verdict = verdict.verdict
        if verdict is not None:
            check_stored(verdict, source)
    assert asked > fuzz.count // 20 or fuzz.count < 100


def check_stored(verdict: Verdict, source: str) -> None:
    """What a verdict says can be stored, and is the same afterwards."""
    assert verdict.reason != "internal_error", source
    progress = record_verdict(EMPTY_PROGRESS, verdict, 0.0)
    assert decode_progress(encode_progress(progress)) == progress, source
    if isinstance(verdict, Success | Failure):
        assert orjson.loads(orjson.dumps(verdict.payload)) == verdict.payload, source
