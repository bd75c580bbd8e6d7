"""Asking a wait's conditions about an answer: in the loop where that is cheap, else in a worker process under a time limit.

The worker imports this file and no client: keep it cheap to import.
"""

import codecs
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson
from anyio import CapacityLimiter

from waitd.core.http.answer import (
    UNDECIDED,
    AnswerFacts,
    CredentialsRefused,
    Decision,
    Judged,
    asked,
    verdict_of,
)
from waitd.core.waits.verdict import MESSAGE_LIMIT, Pending, Verdict
from waitd.probes.cel.expressions import INLINE_COST, Expression, Language, Trouble, Type
from waitd.probes.cel.workers import apart

#: The largest payload of an outcome, as JSON, in bytes.
RESULT_LIMIT = 64 * 1024
#: The largest body that is read for a condition, decoded, in bytes.
BODY_LIMIT = 1024 * 1024
#: The largest body whose JSON is decoded in the loop for a condition, in bytes: well under a millisecond.
INLINE_BODY = 32 * 1024

LANGUAGE = Language(
    {"status": Type.INT, "headers": Type.Map(Type.STRING, Type.STRING), "body": Type.DYN, "text": Type.STRING}
)

#: Codecs that are no charset of any body, or slow on purpose-made input.
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "unicode_escape", "utf-7", "undefined", "mbcs", "oem"}
)


class Sources(NamedTuple):
    """A wait's conditions as text; None where it has none."""

    success_when: str | None = None
    failure_when: str | None = None
    message: str | None = None
    result: str | None = None


class Conditions:
    """A wait's conditions, and what is known of them before any answer. Equal ones are one object while one of them is alive.

    Attributes:
        allowlist: statuses that mean "not yet".
        conditions: decision, name, source, whether it names `status`, and what evaluates it without CEL, if anything does (small, where a
            compiled expression is not), in the order in which they are asked.
        names_headers, names_text: whether anything looks at the headers, at the text.
        needs_body: whether judging (success, failure, message) needs the body: of a 2xx, and of any other answer.
        result_needs_body: whether the result does.
        quick_size: up to this many bytes of body and headers are judged in the loop without weighing them; -1: never.
        pending: what a status alone came to so far, where nothing but the status decides and it decided nothing; else None.
    """

    __slots__ = (
        *("__weakref__", "allowlist", "conditions", "names_headers", "names_text"),
        *("needs_body", "pending", "quick_size", "result_needs_body", "sources"),
    )

    def __init__(self, sources: Sources, allowlist: frozenset[int]) -> None:
        self.sources = sources
        self.allowlist = allowlist
        found = {
            name: LANGUAGE.compile(source) for name, source in sources._asdict().items() if source is not None
        }
        self.conditions = tuple(
            (decision, name, found[name].source, "status" in found[name].names, found[name].without_cel)
            for decision, name in ((Decision.FAILURE, "failure_when"), (Decision.SUCCESS, "success_when"))
            if name in found
        )
        self.names_headers = any("headers" in expression.names for expression in found.values())
        self.names_text = any("text" in expression.names for expression in found.values())
        judging = [expression for name, expression in found.items() if name != "result"]
        self.needs_body = (
            any(_reads_body(expression) for expression in judging),
            any(_reads_body(expression) for expression in judging if "status" in expression.names),
        )
        self.result_needs_body = "result" not in found or _reads_body(found["result"])
        self.quick_size = quick_size_of(found.values())
        by_status = all(expression.names <= {"status"} for expression in judging)
        self.pending: dict[int, Pending] | None = {} if by_status else None

    def body_to_judge(self, status: int) -> bool:
        """Whether any condition that is asked about this status needs the body."""
        return self.needs_body[0 if 200 <= status < 300 else 1]

    def decide(self, response: "Response") -> Judged:
        """Row 2: which condition is true; `message` and `result` are not looked at."""
        if response.decided is None or response.decided[0] is not self:
            response.decided = (self, self._decide(response))
        return response.decided[1]

    def _decide(self, response: "Response") -> Judged:
        status, note = response.status, ""
        answered = asked(status, names_status=False)
        for decision, name, source, names_status, without_cel in self.conditions:
            if not (answered or names_status):
                continue
            value = None if without_cel is None else without_cel(response)
            if value is None:
                value = LANGUAGE.compile(source).evaluate(response)
            if value is True:
                return _DECIDED[decision]
            if value is not False:
                note = f"{name}: {value if isinstance(value, Trouble) else 'not a boolean'}"
        if answered and self.sources.success_when is None:
            return _DECIDED[Decision.SUCCESS]
        return Judged(note=note) if note else UNDECIDED

    def judge(self, response: "Response") -> Judged:
        """All that the conditions say of one answer."""
        judged = self.decide(response)
        message = None if self.sources.message is None else LANGUAGE.compile(self.sources.message)
        if message is not None and asked(response.status, "status" in message.names):
            judged = judged._replace(message=message_of(message, response))
        if judged.decision is None:
            return judged
        result = None if self.sources.result is None else LANGUAGE.compile(self.sources.result)
        payload, omitted = payload_of(result, response)
        return judged._replace(payload=payload, omitted=omitted)

    def is_quick(self, response: "Response") -> bool:
        """Whether judging this answer keeps the loop for a few milliseconds at most."""
        size = size_of(self, response)
        if size <= self.quick_size:
            return True
        if len(response.raw or b"") > INLINE_BODY and any(self.sources):
            return False
        expressions = [LANGUAGE.compile(source) for source in self.sources if source is not None]
        return costs_little(expressions, response, size)

    def verdict(self, answered: AnswerFacts, judged: Judged) -> Verdict | CredentialsRefused:
        """The table's row that fits an answer and what was judged of it."""
        return verdict_of(answered, judged, self.allowlist)

    def recipe(self) -> tuple[Callable[..., "Conditions"], tuple[Any, ...]]:
        """What makes equal rules in another process: a function and its arguments."""
        return rules_of, (self.sources, frozenset())


_interned: WeakValueDictionary[tuple[Sources, frozenset[int]], Conditions] = WeakValueDictionary()


def rules_of(sources: Sources, allowlist: frozenset[int]) -> Conditions:
    """The rules of these conditions, shared with every wait that has equal ones. The sources must compile."""
    rules = _interned.get((sources, allowlist))
    if rules is None:
        rules = _interned[sources, allowlist] = Conditions(sources, allowlist)
    return rules


class Response:
    """What the conditions see of an answer. `body` and `text` are decoded at their first use, once.

    Attributes:
        headers: lower-case names; values of a repeated name are joined by commas.
        raw: the decoded content, or None where it was not read.
    """

    __slots__ = ("_body", "_text", "charset", "decided", "headers", "raw", "status")

    def __init__(self, status: int, headers: dict[str, str], raw: bytes | None, charset: str | None) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw
        self.charset = charset
        self._body: Any = _UNREAD
        self._text: str | None = None
        #: What was decided last, and by which rules.
        self.decided: tuple[Conditions, Judged] | None = None

    @property
    def body(self) -> Any:
        """The body as JSON; None where it is none."""
        if self._body is _UNREAD:
            self._body, _ = decoded(self.raw)
        return self._body

    @property
    def text(self) -> str:
        """The body as text, in the charset that the answer names; what cannot be decoded is replaced."""
        if self._text is None:
            self._text = (self.raw or b"").decode(_codec(self.charset), "replace")
        return self._text


_UNREAD = object()


def decoded(raw: bytes | None) -> tuple[Any, bool]:
    """The JSON value of a body, and whether it is JSON at all."""
    if not raw:
        return None, False
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError:
        return None, False


_DECIDED = {decision: Judged(decision) for decision in Decision}


def size_of(rules: Conditions, response: Response) -> int:
    """How many bytes of an answer these rules look at, at most."""
    size = len(response.raw or b"")
    return size + sum(map(len, response.headers.values())) if rules.names_headers else size


def costs_little(expressions: Sequence[Expression], response: Response, size: int) -> bool:
    """Whether evaluating all of these keeps the loop for a few milliseconds at most. `size`: see `size_of`."""
    items = (response.raw or b"").count(b",") + 1 + len(response.headers)
    return sum(e.cost(e.weight(response, size), items) for e in expressions) <= INLINE_COST


async def judge_apart(rules: Conditions, response: Response, limiter: CapacityLimiter) -> Judged:
    """The same as `rules.judge`, in a worker process, which is killed when this is cancelled.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: the expression asked for more memory than there is.
    """
    judged: Judged = await apart(
        _judge_in_worker,
        *(rules.recipe(), response.status, response.headers, response.raw, response.charset),
        limiter=limiter,
    )
    return judged


def _judge_in_worker(
    recipe: tuple[Callable[..., Conditions], tuple[Any, ...]],
    status: int,
    headers: dict[str, str],
    raw: bytes | None,
    charset: str | None,
) -> Judged:
    make, ingredients = recipe
    return make(*ingredients).judge(Response(status, headers, raw, charset))


def message_of(expression: Expression, response: Any) -> str | None:
    """The text that an expression makes of an answer; None where it makes none."""
    value = expression.evaluate(response)
    if not isinstance(value, str) or isinstance(value, Trouble):
        return None
    return value[:MESSAGE_LIMIT]


def payload_of(expression: Expression | None, response: Any) -> tuple[Any, bool]:
    """The payload, and whether it was left out; without an expression, the JSON body."""
    if expression is None:
        raw = response.raw
        if not raw:
            return None, False  # nothing was left out
        if len(raw) > RESULT_LIMIT:
            return None, True
        value, is_json = decoded(raw)
        return value, not is_json
    value = expression.evaluate(response)
    if isinstance(value, Trouble):
        return None, True
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # bytes, a duration, a type
        return None, True
    return (None, True) if len(encoded) > RESULT_LIMIT else (orjson.loads(encoded), False)


def quick_size_of(expressions: Collection[Expression]) -> int:
    """Up to how many bytes of an answer all of these cost little, whatever stands in it; -1: never."""
    size = INLINE_BODY
    while size:
        # A comma every other byte is the most elements that JSON can have.
        if sum(expression.cost(size, size // 2) for expression in expressions) <= INLINE_COST:
            return size
        size //= 2
    return 0 if sum(expression.cost(0, 0) for expression in expressions) <= INLINE_COST else -1


def _reads_body(expression: Expression) -> bool:
    return not expression.names.isdisjoint(("body", "text"))


def _codec(charset: str | None) -> str:
    if charset is None:
        return "utf-8"
    try:
        name = codecs.lookup(charset).name
        "".encode(name)  # refuses codecs that do not make text
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _NO_CHARSETS else name


def lower_names(items: Mapping[str, str]) -> dict[str, str]:
    """Headers as conditions see them. A byte that is no UTF-8 is replaced."""
    found: dict[str, str] = {}
    for name, value in items.items():
        key = name.lower()
        text = (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
