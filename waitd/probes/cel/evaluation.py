"""Evaluates expressions for people and payloads, and estimates what evaluation takes the loop.

Workers import this module, so it imports no client.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import orjson

from waitd import exact_json
from waitd.core.waits.verdict import MESSAGE_LIMIT
from waitd.probes.cel.expressions import INLINE_COST, ErrorValue, Expression
from waitd.probes.cel.response import ResponseVariables

#: The largest payload of an outcome, as JSON, in bytes.
RESULT_LIMIT = 64 * 1024
#: The largest body that conditions are evaluated on, decoded, in bytes.
BODY_LIMIT = 1024 * 1024
#: The largest body whose JSON is decoded in the loop, in bytes: that takes well under a
#: millisecond.
INLINE_BODY = 32 * 1024


def all_fit_inline(expressions: Sequence[Expression], response: ResponseVariables, size: int) -> bool:
    """Whether all of these take the loop a few milliseconds at most; see `Conditions.size`."""
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

    Without an expression it is the JSON in `raw`. A field of the body is passed on without CEL,
    whose integers have 64 bits.
    """
    if expression is None:
        raw = variables.raw
        if not raw:
            return None, False  # there is nothing to omit
        if len(raw) > RESULT_LIMIT:
            return None, True
        value, is_json = variables.payload()
        return value, not is_json
    value = _exact_field(expression, variables)
    if value is None:
        value = expression.evaluate(variables)
    return (None, True) if isinstance(value, ErrorValue) else limit_payload(value)


def _exact_field(expression: Expression, variables: Any) -> Any:
    """Returns the field that an expression names of a body with long integers, or None."""
    if expression.body_field is None or not exact_json.may_have_long_integers(variables.raw or b""):
        return None
    value, _ = variables.payload()
    for name in expression.body_field:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def limit_payload(value: Any, default: Callable[[Any], Any] | None = None) -> tuple[Any, bool]:
    """Returns a value as JSON, and whether it was omitted as too large or not valid JSON.

    `default` converts what JSON does not know, as in `orjson.dumps`.
    """
    try:
        encoded = exact_json.dumps(value, default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # bytes, a duration, a type; text that is not Unicode
        return None, True
    return (None, True) if len(encoded) > RESULT_LIMIT else (exact_json.loads(encoded), False)


def inline_limit(expressions: Collection[Expression]) -> int:
    """The size of a response in bytes up to which all of these are cheap in any case; -1: never."""
    size = INLINE_BODY
    while size:
        # JSON has the most elements with a comma at every other byte.
        if sum(expression.cost(size, size // 2) for expression in expressions) <= INLINE_COST:
            return size
        size //= 2
    return 0 if sum(expression.cost(0, 0) for expression in expressions) <= INLINE_COST else -1
