"""The light syntax check accepts what the compiler accepts, and locates mistakes."""

import random

import pytest

from waitd.core.cel_syntax import syntax_problem
from waitd.probes.cel.hints import RULES
from waitd.probes.cel.response import RESPONSE_ENV
from waitd.probes.presets.loading import built_in_presets

VALUES = (
    "body", "status", "body.x", ".body", "body['k']", "1", "-1", "2.5", ".5", "1e3", "7u", "0x1F", "true", "null", "'a'", '"b"',
    "'it\\'s'", "r'x\\d'", "b'z'", "'''a'b'''", "[]", "{}", "google.protobuf.Int64Value{value: 1}", "timestamp('2026-01-01T00:00:00Z')",
)  # fmt: skip
TOKENS = (*VALUES, "&&", "||", "!", "-", "==", "in", "(", ")", "[", "]", "{", "}", ",", ".", "?", ":", "=", "&", "`a-b`", "\n", "// c\n")  # fmt: skip


def grow(chance: random.Random, depth: int = 0) -> str:
    """A random expression, mostly of valid syntax."""
    if depth > 3 or chance.random() < 0.3:
        return chance.choice(VALUES)
    forms = (
        "{} && {}", "{} == {}", "{} + {}", "{} in {}", "({})", "[{}, {}]", "[{},]", "{{'a': {}}}", "{{{}: {},}}", "!{}", "--{}",
        "size({})", "{} ? {} : {}", "{}.x", "{}[{}]", "{}.contains({})", "body.exists(x, {})", "has(body.x.y) || {}",
    )  # fmt: skip
    form = chance.choice(forms)
    return form.format(*(grow(chance, depth + 1) for _ in range(form.count("{}"))))


def damage(chance: random.Random, source: str) -> str:
    at = chance.randrange(len(source))
    return source[:at] + chance.choice(("", *TOKENS)) + source[at + 1 :]


def test_what_the_compiler_accepts_is_accepted() -> None:
    chance = random.Random(26)
    sources = [source for preset in built_in_presets().values() for source in preset.file.expressions()]
    sources += [rule.suggestion for rule in RULES]
    for _ in range(500):
        source = grow(chance)
        sources += [source, damage(chance, source), " ".join(chance.choices(TOKENS, k=chance.randint(1, 9)))]
    refused = 0
    for source in sources:
        if syntax_problem(source) is not None:
            refused += 1
            assert RESPONSE_ENV.problem(source) is not None, source
    assert refused > 300


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("body.state = 'x'", "1:12: expected an operator, found '='; CEL writes =="),
        ("body.x and\n true", "1:8: expected an operator, found 'and'; CEL writes &&"),
        ("not body.x", "1:5: expected an operator, found 'body'; CEL writes !"),
        ("size(files", "1:11: expected ')', found the end"),
        ("true &&\n  ", "2:3: expected a value, found the end"),
        ("", "1:1: expected a value, found the end"),
        ("body.state == 'x", "1:15: the text that begins with ' does not end"),
        ("{'a' 1}", "1:6: expected ':', found '1'"),
        ("a ? b", "1:6: expected ':', found the end"),
        ("body.'x'", "1:6: expected the name of a field, found \"'x'\""),
        ("a $ b", "1:3: expected an operator, found '$'"),
    ],
)
def test_a_mistake_is_located(source: str, problem: str) -> None:
    assert syntax_problem(source) == problem
    assert RESPONSE_ENV.problem(source) is not None


def test_deep_nesting_is_left_to_the_compiler() -> None:
    assert syntax_problem("(" * 5000) is None
    assert syntax_problem("!" * 5000 + "a") is None
