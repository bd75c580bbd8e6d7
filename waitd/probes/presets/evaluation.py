"""How a preset judges an answer: the job's state is found, looked up on closed lists, and only then is anything else evaluated.

Worker processes import this file: keep it cheap to import.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from waitd.core.http.answer import UNDECIDED, AnswerFacts, CredentialsRefused, Decision, Evaluation
from waitd.core.http.job_answer import JobAnswerKind, JobState, job_verdict, state_message
from waitd.core.waits.verdict import MESSAGE_LIMIT, Verdict
from waitd.probes.cel.evaluation import (
    INLINE_BODY,
    Conditions,
    ResponseVariables,
    all_fit_inline,
    evaluate_message,
    evaluate_payload,
    inline_limit,
    response_size,
)
from waitd.probes.cel.expressions import CelEnvironment, ErrorValue, Expression, Type

#: What the expressions of a preset may name: those of kind `http`, and the wait's own parameters.
LANGUAGE = CelEnvironment(
    {
        "status": Type.INT,
        "headers": Type.Map(Type.STRING, Type.STRING),
        "body": Type.DYN,
        "text": Type.STRING,
        "params": Type.Map(Type.STRING, Type.DYN),
    }
)
#: Where a state lies when no expression is needed to find it: `body.status.state`, `body.jobs[0].status`.
_PATH = re.compile(r"body(?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,3}\])*")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]{1,3})\]")

JsonPath = tuple[str | int, ...]


class StateItems(NamedTuple):
    """A state that is one of several conditions in a list, as Kubernetes has it.

    Attributes:
        path: where the list lies; what holds it must be there, the list itself may be missing.
        where: fields that an item must have, with their values.
        value: the field whose value is the state; of several, a failure comes first, then a success.
        otherwise: the state where no item says one that is on a list.
    """

    path: str
    where: tuple[tuple[str, str], ...]
    value: str
    otherwise: str


class AnswerRule(NamedTuple):
    """What answers other than a 2xx mean to this vendor, where the table would take them for something else."""

    when: str
    means: JobAnswerKind


class JobSources(NamedTuple):
    """All that a preset's rules are made of, as text; equal ones make equal rules in every process.

    Attributes:
        state: a path, CEL, or items: what says the job's state.
        success, failure, running, not_found: the states that mean this.
        error: CEL; said of a failure, after its state.
        message: CEL; said in every other case.
        refusal: CEL; said of a 4xx that means nothing else.
        result: CEL; the payload. None: the JSON body.
        answers: asked in their order about whatever is no 2xx.
        params: those of the wait that an expression names, as JSON; None where none does.
    """

    state: str | StateItems
    success: frozenset[JobState]
    failure: frozenset[JobState]
    running: frozenset[JobState]
    not_found: frozenset[JobState] = frozenset()
    error: str | None = None
    message: str | None = None
    refusal: str | None = None
    result: str | None = None
    answers: tuple[AnswerRule, ...] = ()
    params: bytes | None = None


class JobConditions(Conditions):
    """A preset's rules. Equal ones are one object while one of them is alive."""

    def __init__(
        self, sources: JobSources
    ) -> None:  # the base's own is about conditions, of which there are none
        self.sources = sources  # type: ignore[assignment]  # read as `Sources` only for `result`
        self.allowlist = frozenset()
        self.conditions = ()
        self.pending_by_status = None
        self._find = _finder(sources)
        self._params: dict[str, Any] = {} if sources.params is None else orjson.loads(sources.params)
        self._known = dict(_known(sources))
        self._error = _compiled(sources.error)
        self._message = _compiled(sources.message)
        self._refusal = _compiled(sources.refusal)
        self._result = _compiled(sources.result)
        self._answers = tuple((LANGUAGE.compile(answer.when), answer.means) for answer in sources.answers)
        self._state = self._find if isinstance(self._find, Expression) else None
        self._names_status = self._state is not None and "status" in self._state.names
        self._always = _given(self._state, self._message)
        elsewhere = _given(self._refusal, *(expression for expression, _ in self._answers))
        at_the_end = _given(self._error, self._result)
        every = (*self._always, *elsewhere, *at_the_end)
        self.uses_headers = any("headers" in expression.names for expression in every)
        self.uses_text = any("text" in expression.names for expression in every)
        of_a_refusal = elsewhere if not self._names_status else (*every,)
        self._needs_body = (self._state is None or _read_body(self._always), _read_body(of_a_refusal))
        self.result_needs_body = self._result is None or _read_body([self._result])
        self.inline_limit = inline_limit(self._always)

    # ------------------------------------------------------------ what is decided

    def _decide(self, response: ResponseVariables) -> Evaluation:
        ok = 200 <= response.status < 300
        if ok or self._names_status:
            state, why = self._state_of(response)
            if state in self._known:
                return self._known[state]
            if ok:
                return (
                    Evaluation(job_answer=JobAnswerKind.MALFORMED, note=why)
                    if state is None
                    else _unheard(state)
                )
        for expression, means in self._answers:
            if expression.evaluate(self._seen(response)) is True:
                return Evaluation(job_answer=means)
        return UNDECIDED

    def state_of(self, response: ResponseVariables) -> JobState | None:
        """The state that an answer says, or None where it says none."""
        return self._state_of(response)[0]

    def _state_of(self, response: ResponseVariables) -> tuple[JobState | None, str]:
        """The state, or why there is none."""
        find = self._find
        value = find.evaluate(self._seen(response)) if isinstance(find, Expression) else find(response.body)
        if type(value) is str or type(value) is int:  # a Trouble is neither, nor is True
            return value, ""
        return None, value if isinstance(value, ErrorValue) else ""

    def evaluate(self, response: ResponseVariables) -> Evaluation:
        """See `Conditions.evaluate`."""
        judged = self.decide(response)
        if judged.decision is None:
            return self._in_words(judged, response)
        seen = self._seen(response)
        said = judged.message or ""
        if judged.decision is Decision.FAILURE and self._error is not None:
            error = evaluate_message(self._error, seen)
            said = f"{self._state_of(response)[0]}: {error}"[:MESSAGE_LIMIT] if error else said
        elif self._message is not None:
            said = evaluate_message(self._message, seen) or said
        payload, omitted = evaluate_payload(self._result, seen)
        return judged._replace(message=said, payload=payload, payload_omitted=omitted)

    def _in_words(self, judged: Evaluation, response: ResponseVariables) -> Evaluation:
        """What is said where nothing is decided: the hot path has nothing to add to what is known of the state."""
        if judged.job_answer is JobAnswerKind.RUNNING:
            said = self._message
        elif judged.job_answer is JobAnswerKind.UNKNOWN or not 400 <= response.status <= 499:
            return judged
        else:
            said = self._refusal
        message = None if said is None else evaluate_message(said, self._seen(response))
        return judged if message is None else judged._replace(message=message)

    def fits_inline(self, response: ResponseVariables) -> bool:
        """See `Conditions.fits_inline`. What is evaluated only once, at the end, does not make every look expensive."""
        if len(response.raw or b"") > INLINE_BODY:
            return False
        seen, size = self._seen(response), response_size(self, response)
        asked = [] if response.status < 300 else [expression for expression, _ in self._answers]
        if (size > self.inline_limit or asked) and not all_fit_inline([*self._always, *asked], seen, size):
            return False
        judged = self.decide(response)
        if judged.job_answer is JobAnswerKind.RUNNING:
            return True
        decided = judged.decision is not None
        later = _given(self._error, self._result) if decided else _given(self._refusal)
        return all_fit_inline(later, seen, size)

    def verdict(self, answered: AnswerFacts, judged: Evaluation) -> Verdict | CredentialsRefused:
        """See `Conditions.verdict`."""
        return job_verdict(answered, judged)

    def __reduce__(self) -> tuple[Callable[..., Conditions], tuple[Any, ...]]:
        """Pickles the sources, as `Conditions` does."""
        return shared_job_conditions, (self.sources,)

    def _seen(self, response: ResponseVariables) -> Any:
        return _WithParams(response, self._params) if self._params else response


class _WithParams:
    """An answer, and the wait's own parameters beside it."""

    __slots__ = ("params", "response")

    def __init__(self, response: ResponseVariables, params: Mapping[str, Any]) -> None:
        self.response = response
        self.params = params

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)


_interned: WeakValueDictionary[JobSources, JobConditions] = WeakValueDictionary()


def shared_job_conditions(sources: JobSources) -> JobConditions:
    """The rules of these sources, shared with every wait that has equal ones. The sources must compile."""
    rules = _interned.get(sources)
    if rules is None:
        rules = _interned[sources] = JobConditions(sources)
    return rules


def is_path(source: str) -> bool:
    """Whether a state is found without evaluating anything."""
    return _PATH.fullmatch(source) is not None


def parse_path(source: str) -> JsonPath:
    """The steps below `body`."""
    return tuple(name or int(index) for name, index in _STEP.findall(source))


def _compiled(source: str | None) -> Expression | None:
    return None if source is None else LANGUAGE.compile(source)


def _given(*expressions: Expression | None) -> tuple[Expression, ...]:
    return tuple(expression for expression in expressions if expression is not None)


def _read_body(expressions: Iterable[Expression]) -> bool:
    return any(not expression.names.isdisjoint(("body", "text")) for expression in expressions)


def _known(sources: JobSources) -> Mapping[JobState, Evaluation]:
    """What each listed state comes to."""
    found: dict[JobState, Evaluation] = {}
    for state in sources.running:
        found[state] = Evaluation(job_answer=JobAnswerKind.RUNNING, message=state_message(state))
    for state in sources.not_found:
        found[state] = Evaluation(job_answer=JobAnswerKind.NOT_FOUND)
    for decision, states in ((Decision.SUCCESS, sources.success), (Decision.FAILURE, sources.failure)):
        found.update({state: Evaluation(decision, state_message(state)) for state in states})
    return found


def _unheard(state: JobState) -> Evaluation:
    shown = repr(state)[: MESSAGE_LIMIT // 2]
    return Evaluation(
        job_answer=JobAnswerKind.UNKNOWN,
        message=f"The state {shown} is on no list of this kind; the wait goes on.",
    )


def _finder(sources: JobSources) -> Expression | Callable[[Any], Any]:
    state = sources.state
    if isinstance(state, StateItems):
        return _items_finder(state, (*sources.failure, *sources.success, *sources.running))
    if not is_path(state):
        return LANGUAGE.compile(state)
    path = parse_path(state)
    return lambda body: _at(body, path)


def _items_finder(items: StateItems, listed_states: Sequence[JobState]) -> Callable[[Any], Any]:
    *above, last = parse_path(items.path)

    def find(body: Any) -> Any:
        holder = _at(body, tuple(above))
        if not isinstance(holder, dict):
            return None
        listed = holder.get(last) or []
        if not isinstance(listed, list):
            return None
        said = [item.get(items.value) for item in listed if isinstance(item, dict) and _fits(item, items)]
        return next((state for state in listed_states if state in said), items.otherwise)

    return find


def _fits(item: Mapping[str, Any], items: StateItems) -> bool:
    return all(item.get(name) == value for name, value in items.where)


def _at(value: Any, path: JsonPath) -> Any:
    """What lies at a path of a JSON value; None where nothing does."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
