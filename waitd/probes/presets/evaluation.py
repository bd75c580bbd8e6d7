"""How a preset evaluates an answer: it finds the job's state and looks it up on the closed lists.

Other expressions are evaluated only after that. Worker processes import this module, so it must
import no client and stay cheap to import.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from waitd.core.http.answer import UNDECIDED, AnswerFacts, CredentialsRefused, Decision, Evaluation
from waitd.core.http.job_answer import JobAnswerKind, JobState, job_verdict, state_message
from waitd.core.waits.verdict import MESSAGE_LIMIT, Verdict
from waitd.probes.cel.conditions import Conditions, use_body
from waitd.probes.cel.evaluation import (
    INLINE_BODY,
    all_fit_inline,
    evaluate_message,
    evaluate_payload,
    inline_limit,
)
from waitd.probes.cel.expressions import CelEnvironment, ErrorValue, Expression, Type, replace_json_nul
from waitd.probes.cel.response import ResponseVariables
from waitd.probes.presets.states import StateItems, find_state, is_path

#: The variables of a preset's expressions: those of the kind `http`, and the wait's parameters.
LANGUAGE = CelEnvironment(
    {
        "status": Type.INT,
        "headers": Type.Map(Type.STRING, Type.STRING),
        "body": Type.DYN,
        "text": Type.STRING,
        "params": Type.Map(Type.STRING, Type.DYN),
    }
)


class AnswerRule(NamedTuple):
    """What an answer other than a 2xx means, when that differs from its status."""

    when: str
    means: JobAnswerKind


class JobSources(NamedTuple):
    """The source of a preset's conditions; equal sources make equal conditions in every process.

    Attributes:
        state: a path, CEL or items that yield the job's state.
        success, failure, running, not_found: the states with this meaning.
        error: CEL; the message of a failure, after its state.
        message: CEL; the message in every other case.
        refusal: CEL; the message of a 4xx without another meaning.
        result: CEL; the payload. None: the JSON body.
        answers: evaluated in order for answers other than a 2xx.
        params: the wait's parameters that an expression uses, as JSON; None when there are none.
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
    """A preset's conditions. Equal ones are one object while one of them is alive."""

    def __init__(self, sources: JobSources) -> None:
        self.sources = sources
        source, listed_states = sources.state, (*sources.failure, *sources.success, *sources.running)
        self._state = None if isinstance(source, StateItems) or is_path(source) else _compile(source)
        self._find_state = find_state(source, listed_states)  # not used where the state is CEL
        self._params: dict[str, Any] = (
            {} if sources.params is None else orjson.loads(replace_json_nul(sources.params))
        )
        self._by_state = _evaluations_by_state(sources)
        self._error = _compile(sources.error)
        self._message = _compile(sources.message)
        self._refusal = _compile(sources.refusal)
        self._result = _compile(sources.result)
        self._answers = tuple((LANGUAGE.compile(answer.when), answer.means) for answer in sources.answers)
        self._uses_status = self._state is not None and "status" in self._state.names
        self._always = _present(self._state, self._message)
        for_refusals = _present(self._refusal, *(expression for expression, _ in self._answers))
        every = (*self._always, *for_refusals, *_present(self._error, self._result))
        super().__init__(
            every,
            self._result,
            needs_body=(
                self._state is None or use_body(self._always),
                use_body(every if self._uses_status else for_refusals),
            ),
            inline_limit=inline_limit(self._always),
        )

    # ------------------------------------------------------------ evaluation

    def _decide(self, response: ResponseVariables) -> Evaluation:
        ok = 200 <= response.status < 300
        if ok or self._uses_status:
            state, why = self._state_of(response)
            if state in self._by_state:
                return self._by_state[state]
            if ok:
                return (
                    Evaluation(job_answer=JobAnswerKind.MALFORMED, note=why)
                    if state is None
                    else _unknown_state(state)
                )
        for expression, meaning in self._answers:
            if expression.evaluate(self._variables(response)) is True:
                return Evaluation(job_answer=meaning)
        return UNDECIDED

    def state_of(self, response: ResponseVariables) -> JobState | None:
        """Returns the job's state; None when the answer has none."""
        return self._state_of(response)[0]

    def _state_of(self, response: ResponseVariables) -> tuple[JobState | None, str]:
        """Returns the state, and an explanation when there is none."""
        state = self._state
        value = (
            self._find_state(response.body) if state is None else state.evaluate(self._variables(response))
        )
        if type(value) is str or type(value) is int:  # an ErrorValue is neither, nor is a bool
            return value, ""
        return None, value if isinstance(value, ErrorValue) else ""

    def evaluate(self, response: ResponseVariables) -> Evaluation:
        """See `Conditions.evaluate`."""
        evaluation = self.decide(response)
        if evaluation.decision is None:
            return self._add_message(evaluation, response)
        variables = self._variables(response)
        message = evaluation.message or ""
        if evaluation.decision is Decision.FAILURE and self._error is not None:
            error = evaluate_message(self._error, variables)
            message = f"{self._state_of(response)[0]}: {error}"[:MESSAGE_LIMIT] if error else message
        elif self._message is not None:
            message = evaluate_message(self._message, variables) or message
        payload, omitted = evaluate_payload(self._result, variables)
        return evaluation._replace(message=message, payload=payload, payload_omitted=omitted)

    def _add_message(self, evaluation: Evaluation, response: ResponseVariables) -> Evaluation:
        """Adds a message to an undecided answer.

        A running job mostly needs none: its state has one already.
        """
        if evaluation.job_answer is JobAnswerKind.RUNNING:
            expression = self._message
        elif evaluation.job_answer is JobAnswerKind.UNKNOWN or not 400 <= response.status <= 499:
            return evaluation
        else:
            expression = self._refusal
        message = None if expression is None else evaluate_message(expression, self._variables(response))
        return evaluation if message is None else evaluation._replace(message=message)

    def fits_inline(self, response: ResponseVariables) -> bool:
        """See `Conditions.fits_inline`. Expressions for the end of a job count only then."""
        if len(response.content or b"") > INLINE_BODY:
            return False
        variables, size = self._variables(response), self.size(response)
        applicable = [] if response.status < 300 else [expression for expression, _ in self._answers]
        if (size > self.inline_limit or applicable) and not all_fit_inline(
            [*self._always, *applicable], variables, size
        ):
            return False
        evaluation = self.decide(response)
        if evaluation.job_answer is JobAnswerKind.RUNNING:
            return True
        if evaluation.decision is None:
            return all_fit_inline(_present(self._refusal), variables, size)
        return all_fit_inline(_present(self._error, self._result), variables, size)

    def verdict(self, facts: AnswerFacts, evaluation: Evaluation) -> Verdict | CredentialsRefused:
        """See `Conditions.verdict`."""
        return job_verdict(facts, evaluation)

    def __reduce__(self) -> tuple[Callable[..., Conditions], tuple[Any, ...]]:
        """See `Conditions.__reduce__`."""
        return shared_job_conditions, (self.sources,)

    def _variables(self, response: ResponseVariables) -> Any:
        return _VariablesWithParams(response, self._params) if self._params else response


class _VariablesWithParams:
    """The variables of an answer together with the wait's parameters."""

    __slots__ = ("params", "response")

    def __init__(self, response: ResponseVariables, params: Mapping[str, Any]) -> None:
        self.response = response
        self.params = params

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)


_interned: WeakValueDictionary[JobSources, JobConditions] = WeakValueDictionary()


def shared_job_conditions(sources: JobSources) -> JobConditions:
    """Returns the conditions of these sources, shared by equal ones. The sources must compile."""
    conditions = _interned.get(sources)
    if conditions is None:
        conditions = _interned[sources] = JobConditions(sources)
    return conditions


def _compile(source: str | None) -> Expression | None:
    return None if source is None else LANGUAGE.compile(source)


def _present(*expressions: Expression | None) -> tuple[Expression, ...]:
    return tuple(expression for expression in expressions if expression is not None)


def _evaluations_by_state(sources: JobSources) -> dict[JobState, Evaluation]:
    """Returns the evaluation of each listed state."""
    running, not_found = JobAnswerKind.RUNNING, Evaluation(job_answer=JobAnswerKind.NOT_FOUND)
    return {
        **{state: Evaluation(None, state_message(state), job_answer=running) for state in sources.running},
        **dict.fromkeys(sources.not_found, not_found),
        **{state: Evaluation(Decision.SUCCESS, state_message(state)) for state in sources.success},
        **{state: Evaluation(Decision.FAILURE, state_message(state)) for state in sources.failure},
    }


def _unknown_state(state: JobState) -> Evaluation:
    message = f"The state {repr(state)[: MESSAGE_LIMIT // 2]} is unknown; the wait goes on."
    return Evaluation(job_answer=JobAnswerKind.UNKNOWN, message=message)
