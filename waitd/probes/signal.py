"""The kind `signal`: waits for `POST /v1/signals/KEY`. It is not polled; each signal pokes it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import orjson
from anyio import BrokenWorkerProcess, CapacityLimiter
from msgspec import Struct
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from waitd.core.errors import InvalidInput, StoreUnavailable
from waitd.core.http.answer import RESULT_OMITTED
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.models import Key, Strict, parse_model
from waitd.ports import Pokeable, Probe, Topic
from waitd.probes.cel.evaluation import evaluate_message, evaluate_payload
from waitd.probes.cel.expressions import INLINE_COST, CelEnvironment, ConditionSources, Type, replace_json_nul
from waitd.probes.cel.judging import judge_each
from waitd.probes.cel.workers import WORKERS, run_in_worker, worker_timeout

SIGNAL_ENV = CelEnvironment({"payload": Type.DYN})

NO_SIGNAL = Pending("no_signal", "No signal has been received.")
UNDECIDED = Pending("signal", "Signals have been received, but no condition is true of any.")
TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this payload.")
NOT_READABLE = Unreachable("store_unavailable", "The store is unavailable, so signals cannot be read.")
NO_DAEMON = Unreachable("no_daemon", "Signals can be received only by a daemon; start one with waitd serve.")


def _check_key(key: str) -> str:
    if not key.isprintable():
        raise PydanticCustomError("key", "the key of a signal has only printable characters")
    return key


class SignalParams(Strict):
    """The `params` of a wait of kind `signal`."""

    key: Annotated[Key, AfterValidator(_check_key)] = Field(description="The key of the signal.")
    success_when: str | None = Field(default=None, description="CEL over payload; default: any signal.")
    failure_when: str | None = Field(default=None, description="CEL over payload; default: never.")
    message: str | None = Field(default=None, description="CEL; a string for people.")
    result: str | None = Field(default=None, description="CEL; the outcome's payload. Default: the signal's.")


class SignalTarget(Struct, eq=False, gc=False):
    """The signal of one wait, and the conditions on its payload."""

    namespace: str
    name: str
    conditions: ConditionSources

    conn_id: ClassVar[None] = None
    request_timeout: ClassVar[float] = 10.0

    @property
    def key(self) -> str:
        """The coalescing key: waits for the same signal share one read."""
        return f"signal {self.namespace} {self.name}"


#: Returns the stored payloads of a signal, by namespace and key, in the order of their arrival.
ReadSignals = Callable[[str, str], Awaitable[Sequence[Any]]]


class SignalProbe(Probe):
    """Evaluates a wait's conditions on the signals received. The daemon sets `read`."""

    #: The model of its parameters in the OpenAPI document.
    params_model = SignalParams
    #: A poke has no result before a signal arrives, so the schedule does not poke it.
    polled = False

    def __init__(self, read: ReadSignals | None = None) -> None:
        self._read = read
        self._limiter = CapacityLimiter(WORKERS)

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> SignalTarget:
        """Returns the target of these parameters.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        signal = parse_model(SignalParams, dict(params))
        return SignalTarget(
            namespace,
            signal.key,
            _checked_sources(signal.success_when, signal.failure_when, signal.message, signal.result),
        )

    def origin(self, target: SignalTarget) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all signals: no host is involved."""
        return "signals"

    def topics(self, target: SignalTarget) -> Sequence[Topic]:
        """See `Probe.topics`."""
        return (Topic(target.namespace, "signal", target.name),)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Reads the signals once for waits with equal keys; returns a verdict for each."""
        targets: list[SignalTarget] = [pokeable.target for pokeable in group]
        deadline = asyncio.get_running_loop().time() + SignalTarget.request_timeout
        if self._read is None:
            return [NO_DAEMON] * len(targets)
        try:
            payloads = await self._read(targets[0].namespace, targets[0].name)
        except StoreUnavailable:
            return [NOT_READABLE] * len(targets)
        if not payloads:
            return [NO_SIGNAL] * len(targets)
        verdicts = await judge_each(
            dict.fromkeys(target.conditions for target in targets),
            lambda conditions, sharers: self._evaluate(conditions, payloads, deadline, sharers),
        )
        return [verdicts[target.conditions] for target in targets]

    async def _evaluate(
        self, conditions: ConditionSources, payloads: Sequence[Any], deadline: float, sharers: int
    ) -> Verdict:
        """`deadline` is in the loop's time. `sharers` evaluations share the remaining time."""
        size = len(orjson.dumps(payloads))
        expressions = (SIGNAL_ENV.compile(source) for source in conditions if source is not None)
        if sum(expression.cost(size, size // 2) for expression in expressions) <= INLINE_COST:
            return evaluate_signals(conditions, payloads)
        try:
            async with worker_timeout(deadline - asyncio.get_running_loop().time(), sharers):
                return await run_in_worker(evaluate_signals, conditions, payloads, limiter=self._limiter)
        except (TimeoutError, BrokenWorkerProcess, MemoryError):
            return TOO_SLOW


def evaluate_signals(conditions: ConditionSources, payloads: Sequence[Any]) -> Verdict:
    """Returns the verdict on signals: the first one of which a condition is true decides."""
    encoded = orjson.dumps(payloads)
    readable = replace_json_nul(encoded)
    for payload, stored in zip(
        payloads if readable is encoded else orjson.loads(readable), payloads, strict=True
    ):
        variables = SimpleNamespace(payload=payload)
        failed = _is_true(conditions.failure_when, variables)
        if failed or conditions.success_when is None or _is_true(conditions.success_when, variables):
            result, omitted = stored, False
            if conditions.result is not None:
                result, omitted = evaluate_payload(SIGNAL_ENV.compile(conditions.result), variables)
            reason = RESULT_OMITTED if omitted else "failure" if failed else "success"
            message = _message(conditions, variables)
            return Failure(reason, message, result) if failed else Success(result, reason, message)
    return UNDECIDED


def _is_true(source: str | None, variables: Any) -> bool:
    return source is not None and SIGNAL_ENV.compile(source).evaluate(variables) is True


def _message(conditions: ConditionSources, variables: Any) -> str:
    source = conditions.message
    message = None if source is None else evaluate_message(SIGNAL_ENV.compile(source), variables)
    return "The signal was received." if message is None else message


@lru_cache(maxsize=4096)
def _checked_sources(*sources: str | None) -> ConditionSources:
    """The sources, shared by waits with equal ones. Raises InvalidInput, which is not cached."""
    conditions = ConditionSources(*sources)
    if problems := list(SIGNAL_ENV.condition_problems(conditions)):
        raise InvalidInput(problems)
    return conditions
