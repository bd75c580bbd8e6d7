"""Suggests the CEL for what an expression says in Python, JMESPath, jq or JavaScript.

Each rule rewrites one spelling. A rewritten expression is only suggested if it compiles, so a rule
need not understand everything that it meets. String literals are hidden from the rules.
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple

#: A hidden string literal is a word between these letters.
_MARK = "\u01c2"
_LITERAL = re.compile(r"""((?<!\w)[rRbB]|)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`([^`]*)`""")
_HIDDEN = re.compile(f"{_MARK}(\\d+){_MARK}")
_FIELD_OF_TEXT = re.compile(r"\{([^{}]*)\}")
#: A name, a number or a string with the fields, indices and calls behind it.
_ATOM = r"(?<![\w.])\.?\w+(?:\[[^][]*\]|\([^()]*\)|\.\w+)*"
_COMPARE = r"(?:==|!=|<=|>=|<|>)"
_NAME = re.compile(rf"(?<![\w.\])])\.?([A-Za-z_]\w*)(?!\w*\s*\(|{_MARK})")
_RESPONSE = r"\b(?:response|resp|res|answer|r)\."
_CONSTANTS = {"None": "null", "NULL": "null", "Null": "null", "nil": "null", "undefined": "null"}
_CONSTANTS |= {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_TYPES = {"str": "string", "float": "double", "dict": "map", "to_string": "string", "to_number": "double"}
_METHODS = {
    "lower": "lowerAscii", "toLowerCase": "lowerAscii", "ascii_downcase": "lowerAscii", "upper": "upperAscii",
    "toUpperCase": "upperAscii", "ascii_upcase": "upperAscii", "strip": "trim", "startswith": "startsWith",
    "starts_with": "startsWith", "endswith": "endsWith", "ends_with": "endsWith", "includes": "contains",
    "test": "matches", "match": "matches", "length": "size", "len": "size", "count": "size",
}  # fmt: skip
_KNOWN = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "bool",
        "list",
        "map",
        "type",
        "null_type",
        "timestamp",
        "duration",
        "dyn",
        "google",
        "math",
        "strings",
        "size",
        "has",
    ]
)
#: Functions of Kubernetes' CEL that do not exist here.
_ABSENT = re.compile(
    r"\b(url|isURL|ip|isIP|cidr|isCIDR|quantity|isQuantity|semver|isSemver|sets|optional|flatten|distinct|"
    r"slice|sort|authorizer)\b(?=\(|\.)"
)


class Rule(NamedTuple):
    """A spelling and its CEL.

    Attributes:
        pattern: finds it.
        cel: what replaces it, as in `re.sub`.
        example: an expression with it.
        suggestion: the expression that is suggested for the example.
    """

    pattern: str
    cel: str | Callable[[re.Match[str]], str]
    example: str
    suggestion: str


def _mapped(words: dict[str, str], match: re.Match[str]) -> str:
    return words[match[1]]


RULES: Sequence[Rule] = (
    Rule(rf"{_RESPONSE}(?:json\(\)|body|data)|\bjson\.loads\({_ATOM}\)", "body", "response.json()['x'] == 1", "body['x'] == 1"),
    Rule(rf"{_RESPONSE}status(?:_code)?\b|\bstatus_code\b", "status", "response.status_code == 200", "status == 200"),
    Rule(rf"{_RESPONSE}(?:text|content)\b", "text", "response.text == 'ok'", "text == 'ok'"),
    Rule(rf"{_RESPONSE}headers\b", "headers", "response.headers['x'] == 'a'", "headers['x'] == 'a'"),
    Rule(rf"{_RESPONSE}ok\b", "(status >= 200 && status < 300)", "response.ok", "(status >= 200 && status < 300)"),
    Rule(r"\$\.", "body.", "$.state == 'done'", "body.state == 'done'"),
    Rule(r"\?\.(?=\w)", ".", "body?.state == 'done'", "body.state == 'done'"),
    Rule(r"\bheaders\.(\w+(?:-\w+)+)", lambda m: f"headers['{m[1].lower()}']", "headers.X-State == 'a'", "headers['x-state'] == 'a'"),
    Rule(r"===", "==", "body.n === 1", "body.n == 1"),
    Rule(r"!==|<>", "!=", "body.n <> 1", "body.n != 1"),
    Rule(rf"({_ATOM})\[\?\s*\(?\s*(?:@\.)?({_ATOM})\s*({_COMPARE})\s*({_ATOM})\s*\)?\s*\](?:\s*\|\s*\[0\])?", r"\1.exists(i, i.\2 \3 \4)", "body.items[?state=='done']", "body.items.exists(i, i.state == 'done')"),
    Rule(rf"({_ATOM})\[\]\s*\|\s*select\(({_ATOM})\s*({_COMPARE})\s*({_ATOM})\)", r"\1.exists(i, i\2 \3 \4)", '.items[] | select(.state == "done")', 'body.items.exists(i, i.state == "done")'),
    Rule(rf"({_ATOM})\s*\|\s*(any|all)\(({_ATOM})\s*({_COMPARE})\s*({_ATOM})\)", lambda m: f"{m[1]}.{'exists' if m[2] == 'any' else 'all'}(i, i{m[3]} {m[4]} {m[5]})", ".items | all(.n > 1)", "body.items.all(i, i.n > 1)"),
    Rule(rf"\b(any|all)\(\[?(.+?)\s+for\s+(\w+)\s+in\s+({_ATOM})\]?\)", lambda m: f"{m[4]}.{'exists' if m[1] == 'any' else 'all'}({m[3]}, {m[2]})", "any(i.n == 1 for i in body.items)", "body.items.exists(i, i.n == 1)"),
    Rule(rf"({_ATOM})\s*\|\s*length\b", r"size(\1)", ".items | length > 3", "size(body.items) > 3"),
    Rule(rf"({_ATOM})\s*\|\s*(\w+)(?:\(({_ATOM})\))?(?!\w)", lambda m: f"{m[1]}.{_METHODS[m[2]]}({m[3] or ''})" if m[2] in _METHODS else m[0], '.state | test("^done")', 'body.state.matches("^done")'),
    Rule(rf"({_ATOM})\s*=~\s*({_ATOM})", r"\1.matches(\2)", "body.state =~ '^done'", "body.state.matches('^done')"),
    Rule(rf"\bre\.(?:match|search|fullmatch)\(\s*({_ATOM}),\s*({_ATOM})\)", r"\2.matches(\1)", "re.search('^done', body.state)", "body.state.matches('^done')"),
    Rule(r"(?<![\w.])(?:len|length|count)\(", "size(", "len(body.items) == 1", "size(body.items) == 1"),
    Rule(rf"(?<![\w.])(contains|starts_with|ends_with|startswith|endswith)\(\s*({_ATOM}),\s*({_ATOM})\)", lambda m: f"{m[2]}.{_METHODS.get(m[1], m[1])}({m[3]})", "contains(body.state, 'x')", "body.state.contains('x')"),
    Rule(rf"\.({'|'.join(_METHODS)})(?=\()", lambda m: "." + _METHODS[m[1]], "body.state.lower() == 'done'", "body.state.lowerAscii() == 'done'"),
    Rule(rf"\.get\(\s*({_ATOM})\s*\)", r"[\1]", "body.get('x') == 1", "body['x'] == 1"),
    Rule(rf"({_ATOM}?)\.get\(\s*({_ATOM}),\s*({_ATOM})\)", r"(\2 in \1 ? \1[\2] : \3)", "body.get('x', 0) == 1", "('x' in body ? body['x'] : 0) == 1"),
    Rule(rf"\bisinstance\(\s*({_ATOM}),\s*(\w+)\)", lambda m: f"type({m[1]}) == {_TYPES.get(m[2], m[2])}", "isinstance(body.x, str)", "type(body.x) == string"),
    Rule(rf"(?<![\w.])({'|'.join(_TYPES)})(?=\()", partial(_mapped, _TYPES), "str(body.n) == '1'", "string(body.n) == '1'"),
    Rule(rf"\b(?:exists|defined)\(({_ATOM})\)|({_ATOM})\s+is\s+defined\b", lambda m: f"has({m[1] or m[2]})", "defined(body.x)", "has(body.x)"),
    Rule(rf"\bhas\(({_ATOM}?)\[({_ATOM})\]\)", r"(\2 in \1)", "has(body['x-y'])", "('x-y' in body)"),
    Rule(r"\bis\s+not\b", "!=", "body.x is not null", "body.x != null"),
    Rule(r"\bis\b", "==", "body.x is None", "body.x == null"),
    Rule(rf"\b({'|'.join(_CONSTANTS)})\b", partial(_mapped, _CONSTANTS), "body.x == True", "body.x == true"),
    Rule(rf"({_ATOM})\s+not\s+in\s+({_ATOM}|\[[^][]*\])", r"!(\1 in \2)", "body.x not in ['a', 'b']", "!(body.x in ['a', 'b'])"),
    Rule(rf"({_ATOM})\s+in\s+(text|headers\[[^][]*\])(?![\w.\[])", r"\2.contains(\1)", "'done' in text", "text.contains('done')"),
    Rule(rf"({_ATOM})\s*(<=?)\s*({_ATOM})\s*(<=?)\s*({_ATOM})", r"\1 \2 \3 && \3 \4 \5", "200 <= status < 300", "200 <= status && status < 300"),
    Rule(r"\band\b", "&&", "body.x and body.y", "body.x && body.y"),
    Rule(r"\bor\b", "||", "body.x or body.y", "body.x || body.y"),
    Rule(rf"\bnot\s+({_ATOM}\s*{_COMPARE}\s*{_ATOM})", r"!(\1)", "not body.x == 1", "!(body.x == 1)"),
    Rule(r"\bnot\b\s*", "!", "not body.x", "!body.x"),
    Rule(r"(?<!&)&(?!&)", "&&", "body.x & body.y", "body.x && body.y"),
    Rule(r"(?<!\|)\|(?!\|)", "||", "body.x | body.y", "body.x || body.y"),
    Rule(r"(?<![=!<>~])=(?![=~])", "==", "body.n = 1", "body.n == 1"),
    Rule(r"^\s*(.+?)\s+if\s+(.+?)\s+else\s+(.+)$", r"\2 ? \1 : \3", "body.x if body.y else 'z'", "body.y ? body.x : 'z'"),
)  # fmt: skip
#: Rules that read string literals as well.
LITERAL_RULES: Sequence[Rule] = (
    Rule("[\u201c\u201d]", '"', "body.x == \u201ca\u201d", 'body.x == "a"'),
    Rule("[\u2018\u2019]", "'", "body.x == \u2018a\u2019", "body.x == 'a'"),
    Rule(r"(\bstatus\s*(?:==|!=|<=?|>=?)\s*)['\"](\d{3})['\"]", r"\1\2", "status == '200'", "status == 200"),
    Rule(r"\b[fF](['\"])(.*?)\1", lambda m: _concatenated(m[2], m[1]), "f'{body.n} of 3' == 'x'", "(string(body.n) + ' of 3') == 'x'"),
)  # fmt: skip
_COMPILED = [(re.compile(rule.pattern), rule.cel) for rule in RULES]
_COMPILED_LITERAL = [(re.compile(rule.pattern), rule.cel) for rule in LITERAL_RULES]


def hint(source: str, variables: Sequence[str], compiles: Callable[[str], bool]) -> str:
    """Returns what may help with an expression that does not compile: an expression that does, the
    functions that do not exist, and the variables that do.
    """
    parts = []
    suggestion = _rewritten(source, variables)
    if suggestion != source and compiles(suggestion):
        parts.append(f"did you mean: {suggestion}")
    else:
        absent = dict.fromkeys(_ABSENT.findall(source))
        parts += [f"there is no function {name} here" for name in absent]
    parts.append(f"the variables are {', '.join(variables)}")
    return "; ".join(parts)


def _rewritten(source: str, variables: Sequence[str]) -> str:
    for pattern, cel in _COMPILED_LITERAL:
        source = pattern.sub(cel, source)
    text = _outside_literals(source, _apply_rules)
    return _outside_literals(text, partial(_correct_names, variables))


def _outside_literals(source: str, rewrite: Callable[[str], str]) -> str:
    literals: list[str] = []

    def hide(match: re.Match[str]) -> str:
        literals.append(match[3] if match[2] is None else match[1] + match[2])
        return f"{_MARK}{len(literals) - 1}{_MARK}"

    text = rewrite(_LITERAL.sub(hide, source))
    return _HIDDEN.sub(lambda match: literals[int(match[1])], text)


def _apply_rules(text: str) -> str:
    for pattern, cel in _COMPILED:
        text = pattern.sub(cel, text)
    return text


def _correct_names(variables: Sequence[str], text: str) -> str:
    return _NAME.sub(partial(_known_name, variables, _loop_names(text)), text)


def _loop_names(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\.(?:exists|all|map|filter|exists_one)\(\s*(\w+)\s*,", text))


def _known_name(variables: Sequence[str], loops: frozenset[str], match: re.Match[str]) -> str:
    """A variable instead of a name that is none: one that is written alike, or else its field."""
    name = match[1]
    if name in variables or name in loops or name in _KNOWN:
        return name
    alike = get_close_matches(name, variables, 1, 0.75)
    if alike:
        return alike[0]
    document = next((root for root in ("body", "payload") if root in variables), None)
    return f"{document}.{name}" if document else match[0]


def _concatenated(text: str, quote: str) -> str:
    """The parts of an f-string, added."""
    parts = _FIELD_OF_TEXT.split(text)
    added = [f"string({part})" if n % 2 else f"{quote}{part}{quote}" for n, part in enumerate(parts) if part]
    return f"({' + '.join(added)})" if added else quote * 2
