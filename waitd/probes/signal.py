"""The kind `signal`: waits for somebody to say so, `POST /v1/signals/KEY`. It is not polled; a signal pokes it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from anyio import BrokenWorkerProcess, CapacityLimiter
from pydantic import Field

from waitd.core.errors import InvalidInput, Problem, StoreUnavailable
from waitd.core.http.answer import RESULT_OMITTED
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict
from waitd.models import Key, Strict, parsed
from waitd.ports import Pokeable, Topic
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.cel.expressions import INLINE_COST, Language, Trouble, Type
from waitd.probes.cel.workers import WORKERS, apart

LANGUAGE = Language({"payload": Type.DYN})
#: What each expression may evaluate to; DYN is known only when it is asked.
_TYPES = {"success_when": "BOOL", "failure_when": "BOOL", "message": "STRING"}

NO_SIGNAL = Pending("no_signal", "No signal has come.")
UNDECIDED = Pending("signal", "Signals have come, and none of them decides.")
TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this payload.")
NOT_READABLE = Unreachable("store_unavailable", "The signals cannot be read now.")
NO_DAEMON = Unreachable("no_daemon", "Signals come to a daemon only.")


class SignalParams(Strict):
    """What `params` of a wait of kind `signal` may hold."""

    key: Key = Field(description="Under which key the signal comes.")
    success_when: str | None = Field(default=None, description="CEL over payload; default: any signal.")
    failure_when: str | None = Field(default=None, description="CEL over payload; default: never.")
    message: str | None = Field(default=None, description="CEL; a string for people.")
    result: str | None = Field(default=None, description="CEL; the outcome's payload. Default: the signal's.")


class SignalConditions(NamedTuple):
    """A wait's expressions as text."""

    success_when: str | None = None
    failure_when: str | None = None
    message: str | None = None
    result: str | None = None


class SignalTarget:
    """What one wait listens to, and how it judges what it hears."""

    __slots__ = ("name", "namespace", "rules")

    conn_id = None
    request_timeout = 10.0

    def __init__(self, namespace: str, name: str, rules: SignalConditions) -> None:
        self.namespace = namespace
        self.name = name
        self.rules = rules

    @property
    def key(self) -> str:
        """The coalescing key: one read for all who listen to the same."""
        return f"signal {self.namespace} {self.name}"


#: Reads the payloads that are kept under (namespace, key), in the order in which they came.
Read = Callable[[str, str], Awaitable[Sequence[Any]]]


class SignalProbe:
    """Looks whether a signal has come that decides. `read` is set by whoever has the signals."""

    #: What the API's document shows of its parameters.
    params_model = SignalParams
    #: Nobody need look before a signal comes.
    polled = False

    def __init__(self) -> None:
        self.read: Read | None = None
        self._limiter: CapacityLimiter | None = None

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> SignalTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        given = parsed(SignalParams, dict(params))
        return SignalTarget(
            namespace,
            given.key,
            _rules(given.success_when, given.failure_when, given.message, given.result),
        )

    def origin(self, target: SignalTarget) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all of them: nobody is asked."""
        return "signals"

    def topics(self, target: SignalTarget) -> Sequence[Topic]:
        """See `waitd.ports.Listening`."""
        return (Topic(target.namespace, "signal", target.name),)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look at the signals on behalf of waits that listen to the same."""
        targets: list[SignalTarget] = [pokeable.target for pokeable in group]
        if self.read is None:
            return [NO_DAEMON] * len(targets)
        try:
            payloads = await self.read(targets[0].namespace, targets[0].name)
        except StoreUnavailable:
            return [NOT_READABLE] * len(targets)
        if not payloads:
            return [NO_SIGNAL] * len(targets)
        verdicts: dict[SignalConditions, Verdict] = {}
        for rules in {target.rules: None for target in targets}:
            verdicts[rules] = await self._judged(rules, payloads)
        return [verdicts[target.rules] for target in targets]

    async def _judged(self, rules: SignalConditions, payloads: Sequence[Any]) -> Verdict:
        size = len(orjson.dumps(payloads))
        expressions = [LANGUAGE.compile(source) for source in rules if source is not None]
        if sum(expression.cost(size, size // 2) for expression in expressions) <= INLINE_COST:
            return judge(rules, payloads)
        if self._limiter is None:
            self._limiter = CapacityLimiter(WORKERS)
        try:
            verdict: Verdict = await apart(judge, rules, payloads, limiter=self._limiter)
        except (BrokenWorkerProcess, MemoryError):
            return TOO_SLOW
        return verdict


class _Variables:
    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload


def judge(rules: SignalConditions, payloads: Sequence[Any]) -> Verdict:
    """What signals come to: the first that decides does."""
    for payload in payloads:
        variables = _Variables(payload)
        if (
            rules.failure_when is not None
            and LANGUAGE.compile(rules.failure_when).evaluate(variables) is True
        ):
            result, omitted = _result(rules, variables)
            return Failure(RESULT_OMITTED if omitted else "failure", _message(rules, variables), result)
        if rules.success_when is None or LANGUAGE.compile(rules.success_when).evaluate(variables) is True:
            result, omitted = _result(rules, variables)
            return Success(result, RESULT_OMITTED if omitted else "success", _message(rules, variables))
    return UNDECIDED


def _message(rules: SignalConditions, variables: _Variables) -> str:
    value = None if rules.message is None else LANGUAGE.compile(rules.message).evaluate(variables)
    told = isinstance(value, str) and not isinstance(value, Trouble)
    return str(value)[:MESSAGE_LIMIT] if told else "The signal came."


def _result(rules: SignalConditions, variables: _Variables) -> tuple[Any, bool]:
    """The outcome's payload, and whether it was left out."""
    if rules.result is None:
        return variables.payload, False
    value = LANGUAGE.compile(rules.result).evaluate(variables)
    if isinstance(value, Trouble):
        return None, True
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # bytes, a duration, a type
        return None, True
    return (None, True) if len(encoded) > RESULT_LIMIT else (orjson.loads(encoded), False)


@lru_cache(maxsize=4096)
def _rules(*sources: str | None) -> SignalConditions:
    """The rules, shared by all who have equal ones. Raises InvalidInput, which is not kept."""
    rules, problems = SignalConditions(*sources), []
    for name, source in rules._asdict().items():
        if source is None:
            continue
        try:
            type_name = LANGUAGE.compile(source).type_name
        except ValueError as error:
            problems.append(Problem("/" + name, str(error)))
            continue
        wanted = _TYPES.get(name, type_name)
        if type_name not in {wanted, "DYN"}:
            problems.append(Problem("/" + name, f"1:1: it evaluates to {type_name}, {wanted} is needed"))
    if problems:
        raise InvalidInput(problems)
    return rules
