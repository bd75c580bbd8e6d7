"""Finds syntax errors in CEL, where CEL's compiler is not installed: in Airflow.

It accepts whatever the compiler does, and somewhat more: names, types, escapes and precedence are
left to the compiler, whose word is final.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    |(?P<literal>(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')
        |[bB]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
        |0[xX][0-9a-fA-F]+[uU]?|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+
        |\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[uU]?)
    |(?P<quoted>`[^`\n]+`)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_BINARY = frozenset({"&&", "||", "==", "!=", "<=", ">=", "<", ">", "in", "+", "-", "*", "/", "%"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_OTHER_LANGUAGES = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "is": "==",
    "=": "==",
    "&": "&&",
    "|": "||",
    "if": "a ? b : c",
}
#: Deeper nesting is left to the compiler.
_MAX_DEPTH = 100


class _TooDeepError(Exception):
    """The expression is nested too deeply to be checked here."""


class _SyntaxError(Exception):
    def __init__(self, at: int, message: str) -> None:
        self.at = at
        self.message = message


@lru_cache(maxsize=1024)
def syntax_problem(source: str) -> str | None:
    """What is wrong with the syntax of an expression, as `line:column: …`; None if nothing is."""
    try:
        _Parser(source).parse()
    except _TooDeepError:
        return None
    except _SyntaxError as error:
        line = source.count("\n", 0, error.at) + 1
        column = error.at - (source.rfind("\n", 0, error.at) + 1) + 1
        return f"{line}:{column}: {error.message}"
    return None


class _Parser:
    """Reads an expression from left to right. `_text` is the token in hand, "" at the end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._depth = 0
        self._at = self._next = 0
        self._kind = self._text = self._before = ""
        self._advance()

    def parse(self) -> None:
        self._expression()
        if self._text:
            self._fail("an operator")

    def _advance(self) -> None:
        self._kind, self._before = "space", self._text
        while self._kind == "space":
            self._at = self._next
            if self._at == len(self._source):
                self._kind = self._text = ""
                return
            token = _TOKEN.match(self._source, self._at)
            if token is None:
                character = self._source[self._at]
                if character in {"'", '"', "`"}:
                    raise _SyntaxError(self._at, f"the text that begins with {character} does not end")
                self._kind, self._text, self._next = "unknown", character, self._at + 1
            else:
                self._kind, self._text, self._next = str(token.lastgroup), token[0], token.end()

    def _fail(self, expected: str) -> None:
        instead = _OTHER_LANGUAGES.get(self._text) or _OTHER_LANGUAGES.get(self._before)
        hint = f"; CEL writes {instead}" if instead else ""
        found = repr(self._text) if self._text else "the end"
        raise _SyntaxError(self._at, f"expected {expected}, found {found}{hint}")

    def _take(self, text: str) -> bool:
        if self._text != text or self._kind == "literal":
            return False
        self._advance()
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(repr(text))

    def _expression(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _TooDeepError
        self._unary()
        while self._text in _BINARY and self._kind != "literal":
            self._advance()
            self._unary()
        if self._take("?"):
            self._expression()
            self._expect(":")
            self._expression()
        self._depth -= 1

    def _unary(self) -> None:
        while self._take("!") or self._take("-"):
            pass
        self._primary()
        while True:
            if self._take("."):
                self._take("?")
                if self._kind not in {"name", "quoted"}:
                    self._fail("the name of a field")
                self._advance()
            elif self._take("("):
                self._list(")")
            elif self._take("["):
                self._take("?")
                self._expression()
                self._expect("]")
            elif self._text == "{" and self._kind == "sign":
                self._advance()
                self._map()
            else:
                return

    def _primary(self) -> None:
        if self._kind == "literal":
            self._advance()
        elif self._take("("):
            self._expression()
            self._expect(")")
        elif self._take("["):
            self._list("]")
        elif self._take("{"):
            self._map()
        else:
            self._take(".")
            if self._kind != "name" or self._text == "in":
                self._fail("a value")
            self._advance()

    def _list(self, closing: str) -> None:
        while not self._take(closing):
            self._take("?")
            self._expression()
            if not self._take(","):
                self._expect(closing)
                return

    def _map(self) -> None:
        while not self._take("}"):
            self._take("?")
            self._expression()
            self._expect(":")
            self._expression()
            if not self._take(","):
                self._expect("}")
                return
