"""A wait's conditions on an HTTP response: what they need of it, and how they decide.

They are evaluated in the loop where that is cheap, else in a worker. Workers import this module, so
it imports no client.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any
from weakref import WeakValueDictionary

from waitd.core.http.answer import (
    UNDECIDED,
    AnswerFacts,
    CredentialsRefused,
    Decision,
    Evaluation,
    condition_applies,
    http_verdict,
    without_refusal,
)
from waitd.core.waits.verdict import Pending, Verdict
from waitd.probes.cel.evaluation import (
    INLINE_BODY,
    all_fit_inline,
    evaluate_message,
    evaluate_payload,
    inline_limit,
)
from waitd.probes.cel.expressions import ConditionSources, ErrorValue, Expression
from waitd.probes.cel.response import RESPONSE_ENV, ResponseVariables

_DECIDED = {decision: Evaluation(decision) for decision in Decision}


class Conditions(ABC):
    """The conditions of a wait or of a preset's job. Waits with equal ones share one object.

    Attributes:
        uses_headers, uses_text: whether any expression names the headers, the text.
        has_result: whether an expression makes the payload; else it is the JSON body.
        result_needs_body: whether making the payload needs the body.
        inline_limit: responses of up to this many bytes of body and headers are evaluated in the
            loop, whatever they contain; -1: none is.
        pending_by_status: a cache of pending verdicts by status, where conditions depend on the
            status alone; else None.
    """

    __slots__ = (
        *("__weakref__", "_needs_body", "has_result", "inline_limit", "pending_by_status"),
        *("result_needs_body", "uses_headers", "uses_text"),
    )

    def __init__(
        self,
        expressions: Collection[Expression],
        result: Expression | None,
        *,
        needs_body: tuple[bool, bool],
        inline_limit: int,
    ) -> None:
        """Notes what is known before a response.

        Args:
            expressions: all of them, `result` included.
            result: makes the payload.
            needs_body: whether deciding needs the body: of a 2xx, of any other response.
            inline_limit: as the attribute.
        """
        self.uses_headers = any("headers" in expression.names for expression in expressions)
        self.uses_text = any("text" in expression.names for expression in expressions)
        self.has_result = result is not None
        self.result_needs_body = result is None or use_body([result])
        self._needs_body = needs_body
        self.inline_limit = inline_limit
        self.pending_by_status: dict[int, Pending] | None = None

    @property
    def unchecked(self) -> "Conditions":
        """These conditions for a connection whose `check_response` is false."""
        return self

    def needs_body(self, status: int) -> bool:
        """Whether deciding on a response with this status needs the body."""
        return self._needs_body[0 if 200 <= status < 300 else 1]

    def size(self, response: ResponseVariables) -> int:
        """The most bytes of a response that these conditions can name."""
        size = len(response.content or b"")
        return size + sum(map(len, response.headers.values())) if self.uses_headers else size

    def decide(self, response: ResponseVariables) -> Evaluation:
        """Decides whether the wait is over, without a payload. The response keeps the decision."""
        if response.decided is None or response.decided[0] is not self:
            response.decided = (self, self._decide(response))
        return response.decided[1]

    @abstractmethod
    def _decide(self, response: ResponseVariables) -> Evaluation:
        """Decides, see `decide`, which calls it once for a response."""

    @abstractmethod
    def evaluate(self, response: ResponseVariables) -> Evaluation:
        """Evaluates all expressions: the decision, its message and, once decided, its payload."""

    @abstractmethod
    def fits_inline(self, response: ResponseVariables) -> bool:
        """Whether evaluating this response takes the loop a few milliseconds at most."""

    @abstractmethod
    def verdict(self, facts: AnswerFacts, evaluation: Evaluation) -> Verdict | CredentialsRefused:
        """Returns the verdict on a response that was evaluated."""

    @abstractmethod
    def __reduce__(self) -> tuple[Callable[..., "Conditions"], tuple[Any, ...]]:
        """Pickles the sources: a worker compiles them once."""


class WaitConditions(Conditions):
    """The conditions that a wait of the kind `http` brings.

    Attributes:
        sources: their CEL.
        allowlist: statuses that mean "not yet".
        checked: whether a condition that does not name `status` is asked only about a 2xx, and a
            refusal ends the wait.
        conditions: in the order of evaluation: decision, name, source, whether it names `status`,
            and its fast path or None. A compiled expression is not kept: it is large.
    """

    __slots__ = ("_unchecked", "allowlist", "checked", "conditions", "sources")

    def __init__(self, sources: ConditionSources, allowlist: frozenset[int], *, checked: bool = True) -> None:
        self.sources = sources
        self.allowlist = allowlist
        self.checked = checked
        self._unchecked: WaitConditions | None = None
        expressions = {
            name: RESPONSE_ENV.compile(source)
            for name, source in sources._asdict().items()
            if source is not None
        }
        self.conditions = tuple(
            (decision, name, expression.source, "status" in expression.names, expression.fast_path)
            for decision, name in ((Decision.FAILURE, "failure_when"), (Decision.SUCCESS, "success_when"))
            if (expression := expressions.get(name)) is not None
        )
        deciding = [expression for name, expression in expressions.items() if name != "result"]
        with_status = [each for each in deciding if "status" in each.names or not checked]
        super().__init__(
            expressions.values(),
            expressions.get("result"),
            needs_body=(use_body(deciding), use_body(with_status)),
            inline_limit=inline_limit(expressions.values()),
        )
        by_status = all(expression.names <= {"status"} for expression in deciding)
        self.pending_by_status = {} if by_status else None

    def __reduce__(self) -> tuple[Callable[..., "WaitConditions"], tuple[Any, ...]]:
        """See `Conditions.__reduce__`. The allowlist takes no part in the evaluation."""
        return shared_conditions, (self.sources, frozenset(), self.checked)

    @property
    def unchecked(self) -> "WaitConditions":
        """See `Conditions.unchecked`."""
        if self._unchecked is None:
            self._unchecked = shared_conditions(self.sources, self.allowlist, checked=False)
        return self._unchecked

    def _decide(self, response: ResponseVariables) -> Evaluation:
        status, note = response.status, ""
        is_success = condition_applies(status, names_status=not self.checked)
        for decision, name, source, names_status, fast_path in self.conditions:
            if not (is_success or names_status):
                continue
            value = None if fast_path is None else fast_path(response)
            if value is None:
                value = RESPONSE_ENV.compile(source).evaluate(response)
            if value is True:
                return _DECIDED[decision]
            if value is not False:
                note = f"{name}: {value if isinstance(value, ErrorValue) else 'not a boolean'}"
        if is_success and self.sources.success_when is None:
            return _DECIDED[Decision.SUCCESS]
        return Evaluation(note=note) if note else UNDECIDED

    def evaluate(self, response: ResponseVariables) -> Evaluation:
        """See `Conditions.evaluate`."""
        evaluation = self.decide(response)
        message = None if self.sources.message is None else RESPONSE_ENV.compile(self.sources.message)
        if message is not None and condition_applies(
            response.status, not self.checked or "status" in message.names
        ):
            evaluation = evaluation._replace(message=evaluate_message(message, response))
        if evaluation.decision is None:
            return evaluation
        result = None if self.sources.result is None else RESPONSE_ENV.compile(self.sources.result)
        payload, omitted = evaluate_payload(result, response)
        return evaluation._replace(payload=payload, payload_omitted=omitted)

    def fits_inline(self, response: ResponseVariables) -> bool:
        """See `Conditions.fits_inline`."""
        size = self.size(response)
        if size <= self.inline_limit:
            return True
        if len(response.content or b"") > INLINE_BODY and any(self.sources):
            return False
        expressions = [RESPONSE_ENV.compile(source) for source in self.sources if source is not None]
        return all_fit_inline(expressions, response, size)

    def verdict(self, facts: AnswerFacts, evaluation: Evaluation) -> Verdict | CredentialsRefused:
        """See `Conditions.verdict`."""
        verdict = http_verdict(facts, evaluation, self.allowlist)
        return verdict if self.checked else without_refusal(verdict)


_interned: WeakValueDictionary[tuple[ConditionSources, frozenset[int], bool], WaitConditions] = (
    WeakValueDictionary()
)


def shared_conditions(
    sources: ConditionSources, allowlist: frozenset[int], checked: bool = True
) -> WaitConditions:
    """Returns the one object of all waits with these sources, which must compile."""
    key = sources, allowlist, checked
    conditions = _interned.get(key)
    if conditions is None:
        conditions = _interned[key] = WaitConditions(sources, allowlist, checked=checked)
    return conditions


def use_body(expressions: Iterable[Expression]) -> bool:
    """Whether any of these names the body or the text."""
    return any(not expression.names.isdisjoint(("body", "text")) for expression in expressions)
