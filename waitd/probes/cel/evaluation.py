"""Evaluates conditions on an HTTP response, in the loop where that is cheap, else in a worker.

Workers import this module, so it imports no client.
"""

import codecs
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import orjson

from waitd.core.connections.masking import SecretMask
from waitd.core.http.answer import (
    UNDECIDED,
    AnswerFacts,
    CredentialsRefused,
    Decision,
    Evaluation,
    condition_applies,
    http_verdict,
)
from waitd.core.waits.verdict import MESSAGE_LIMIT, Pending, Verdict
from waitd.probes.cel.expressions import (
    INLINE_COST,
    JSON_NUL,
    CelEnvironment,
    ConditionSources,
    ErrorValue,
    Expression,
    Type,
    replace_json_nul,
    replace_nul,
)

#: The largest payload of an outcome, as JSON, in bytes.
RESULT_LIMIT = 64 * 1024
#: The largest body that conditions are evaluated on, decoded, in bytes.
BODY_LIMIT = 1024 * 1024
#: The largest body whose JSON is decoded in the loop, in bytes: that takes well under a
#: millisecond.
INLINE_BODY = 32 * 1024

RESPONSE_ENV = CelEnvironment(
    {"status": Type.INT, "headers": Type.Map(Type.STRING, Type.STRING), "body": Type.DYN, "text": Type.STRING}
)

#: Python codecs that are not charsets of HTTP bodies, or are slow on crafted input.
_UNUSABLE_CODECS = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "unicode_escape", "utf-7", "undefined", "mbcs", "oem"}
)


class Conditions:
    """A wait's conditions, with what is known about them before a response.

    Waits with equal ones share one.

    Attributes:
        allowlist: statuses that mean "not yet".
        conditions: in the order of evaluation: decision, name, source, whether it names `status`,
            and its fast path or None. A compiled expression is not kept: it is large.
        uses_headers, uses_text: whether any condition names the headers, the text.
        result_needs_body: whether `result` needs the body.
        inline_limit: responses of up to this many bytes of body and headers are evaluated in the
            loop, whatever they contain; -1: none is.
        pending_by_status: a cache of pending verdicts by status, where conditions depend on the
            status alone; else None.
    """

    __slots__ = (
        *("__weakref__", "_needs_body", "allowlist", "conditions", "inline_limit", "pending_by_status"),
        *("result_needs_body", "sources", "uses_headers", "uses_text"),
    )

    def __init__(self, sources: ConditionSources, allowlist: frozenset[int]) -> None:
        self.sources = sources
        self.allowlist = allowlist
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
        self.uses_headers = any("headers" in expression.names for expression in expressions.values())
        self.uses_text = any("text" in expression.names for expression in expressions.values())
        deciding = [expression for name, expression in expressions.items() if name != "result"]
        #: Whether deciding needs the body: of a 2xx, of any other response.
        self._needs_body = (
            any(_reads_body(expression) for expression in deciding),
            any(_reads_body(expression) for expression in deciding if "status" in expression.names),
        )
        self.result_needs_body = "result" not in expressions or _reads_body(expressions["result"])
        self.inline_limit = inline_limit(expressions.values())
        by_status = all(expression.names <= {"status"} for expression in deciding)
        self.pending_by_status: dict[int, Pending] | None = {} if by_status else None

    def __reduce__(self) -> tuple[Callable[..., "Conditions"], tuple[Any, ...]]:
        """Pickles the sources: a worker compiles them once.

        The allowlist takes no part in the evaluation.
        """
        return shared_conditions, (self.sources, frozenset())

    def needs_body(self, status: int) -> bool:
        """Whether a condition that is evaluated on this status needs the body."""
        return self._needs_body[0 if 200 <= status < 300 else 1]

    def decide(self, response: "ResponseVariables") -> Evaluation:
        """Evaluates `failure_when` and `success_when` only. The response keeps the decision."""
        if response.decided is None or response.decided[0] is not self:
            response.decided = (self, self._decide(response))
        return response.decided[1]

    def _decide(self, response: "ResponseVariables") -> Evaluation:
        status, note = response.status, ""
        is_success = condition_applies(status, names_status=False)
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

    def evaluate(self, response: "ResponseVariables") -> Evaluation:
        """Evaluates all conditions: the decision, its message and, once decided, its payload."""
        evaluation = self.decide(response)
        message = None if self.sources.message is None else RESPONSE_ENV.compile(self.sources.message)
        if message is not None and condition_applies(response.status, "status" in message.names):
            evaluation = evaluation._replace(message=evaluate_message(message, response))
        if evaluation.decision is None:
            return evaluation
        result = None if self.sources.result is None else RESPONSE_ENV.compile(self.sources.result)
        payload, omitted = evaluate_payload(result, response)
        return evaluation._replace(payload=payload, payload_omitted=omitted)

    def fits_inline(self, response: "ResponseVariables") -> bool:
        """Whether evaluating this response takes the loop a few milliseconds at most."""
        size = response_size(self, response)
        if size <= self.inline_limit:
            return True
        if len(response.content or b"") > INLINE_BODY and any(self.sources):
            return False
        expressions = [RESPONSE_ENV.compile(source) for source in self.sources if source is not None]
        return all_fit_inline(expressions, response, size)

    def verdict(self, facts: AnswerFacts, evaluation: Evaluation) -> Verdict | CredentialsRefused:
        """Returns the verdict on a response that was evaluated."""
        return http_verdict(facts, evaluation, self.allowlist)


_interned: WeakValueDictionary[tuple[ConditionSources, frozenset[int]], Conditions] = WeakValueDictionary()


def shared_conditions(sources: ConditionSources, allowlist: frozenset[int]) -> Conditions:
    """Returns the one `Conditions` object of all waits with these sources, which must compile."""
    conditions = _interned.get((sources, allowlist))
    if conditions is None:
        conditions = _interned[sources, allowlist] = Conditions(sources, allowlist)
    return conditions


class ResponseVariables:
    """The variables of a response, as conditions name them.

    `body` and `text` are decoded at first use.

    Attributes:
        headers: lower-case names; values of a repeated name are joined by commas.
        content: the decompressed body, or None if it was not read.
        raw: the same without the secrets that `mask` masks. The headers are masked by the caller.
        decided: the last decision and the conditions that made it.
    """

    __slots__ = ("_body", "_text", "charset", "content", "decided", "headers", "mask", "status")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes | None,
        charset: str | None,
        mask: SecretMask | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self.charset = charset
        self.mask = mask
        self._body: Any = _UNREAD
        self._text: str | None = None
        self.decided: tuple[Conditions, Evaluation] | None = None

    def __reduce__(self) -> tuple[Callable[..., "ResponseVariables"], tuple[Any, ...]]:
        """Pickles what was received; a worker decodes it itself."""
        return ResponseVariables, (self.status, self.headers, self.content, self.charset, self.mask)

    @property
    def raw(self) -> bytes | None:
        """The masked body."""
        if self.mask is None or self.content is None:
            return self.content
        return self.mask.mask_bytes(self.content)

    @property
    def body(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        if self._body is _UNREAD:
            raw = self.content if self.mask is None else self.raw
            if raw is not None and JSON_NUL in raw:
                raw = replace_json_nul(raw)
            self._body, _ = decode_json(raw)
        return self._body

    @property
    def text(self) -> str:
        """The body as text in the response's charset; bytes that cannot be decoded are replaced."""
        if self._text is None:
            codec = _codec(self.charset)
            text = (self.raw or b"").decode(codec, "replace")
            if self.mask is not None and codec != "utf-8":
                text = self.mask.mask_text(text)
            self._text = replace_nul(text)
        return self._text


_UNREAD = object()


def decode_json(raw: bytes | None) -> tuple[Any, bool]:
    """Returns the JSON value of a body, and whether it is JSON at all."""
    if not raw:
        return None, False
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError:
        return None, False


_DECIDED = {decision: Evaluation(decision) for decision in Decision}


def response_size(conditions: Conditions, response: ResponseVariables) -> int:
    """The most bytes of a response that these conditions can name."""
    size = len(response.content or b"")
    return size + sum(map(len, response.headers.values())) if conditions.uses_headers else size


def all_fit_inline(expressions: Sequence[Expression], response: ResponseVariables, size: int) -> bool:
    """Whether all of these take the loop a few milliseconds at most; see `response_size`."""
    items = (response.content or b"").count(b",") + 1 + len(response.headers)
    return sum(e.cost(e.weight(response, size), items) for e in expressions) <= INLINE_COST


def evaluate_message(expression: Expression, variables: Any) -> str | None:
    """Returns the text that an expression evaluates to; None if it does not evaluate to text."""
    value = expression.evaluate(variables)
    if not isinstance(value, str) or isinstance(value, ErrorValue):
        return None
    return value[:MESSAGE_LIMIT]


def evaluate_payload(expression: Expression | None, variables: Any) -> tuple[Any, bool]:
    """Returns the payload, and whether it was omitted.

    Without an expression it is the JSON in `raw`.
    """
    if expression is None:
        raw = variables.raw
        if not raw:
            return None, False  # there is nothing to omit
        if len(raw) > RESULT_LIMIT:
            return None, True
        value, is_json = decode_json(raw)
        return value, not is_json
    value = expression.evaluate(variables)
    return (None, True) if isinstance(value, ErrorValue) else limit_payload(value)


def limit_payload(value: Any, default: Callable[[Any], Any] | None = None) -> tuple[Any, bool]:
    """Returns a value as JSON, and whether it was omitted as too large or not valid JSON.

    `default` converts what JSON does not know, as in `orjson.dumps`.
    """
    try:
        encoded = orjson.dumps(value, default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # bytes, a duration, a type; text that is not Unicode; an integer of over 64 bits
        return None, True
    return (None, True) if len(encoded) > RESULT_LIMIT else (orjson.loads(encoded), False)


def inline_limit(expressions: Collection[Expression]) -> int:
    """The size of a response in bytes up to which all of these are cheap in any case; -1: never."""
    size = INLINE_BODY
    while size:
        # JSON has the most elements with a comma at every other byte.
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
        "".encode(name)  # refuses codecs that do not produce text
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _UNUSABLE_CODECS else name


def lowercase_headers(items: Mapping[str, str], mask: SecretMask | None = None) -> dict[str, str]:
    """Returns headers, masked, as conditions name them. Bytes that are not UTF-8 are replaced."""
    headers: dict[str, str] = {}
    for name, value in items.items():
        key = name.lower()
        text = (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
        text = replace_nul(text)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers if mask is None else mask.mask_headers(headers)
