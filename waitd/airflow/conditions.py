"""Python callables read as CEL: what to write in place of a `response_check` or `check_fn`. Pure.

waitd runs nobody's Python, so a callable is refused; the common ones are read from their source, so that the refusal can show the
condition. What cannot be read is answered with an example.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_OPERATORS: Mapping[type[ast.AST], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "==", ast.IsNot: "!=", ast.Not: "!", ast.USub: "-", ast.And: "&&", ast.Or: "||",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Mod: "%",
}  # fmt: skip
#: Attributes of the response that `response_check` gets, and what the same is called in a condition.
_RESPONSE = {"status_code": "status", "text": "text", "headers": "headers", "ok": "status < 400"}
#: Methods of text that CEL has, too.
_TEXT_METHODS = {
    "startswith": "startsWith",
    "endswith": "endsWith",
    "lower": "lowerAscii",
    "upper": "upperAscii",
}

#: Functions that CEL has, too; "" is one that it does not need.
_FUNCTIONS = {"len": "size", "bool": "", "all": "all", "any": "exists", "str": "string", "int": "int"}


class Untranslatable(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """It says more than a condition can, or more than is read here."""


def cel_of(check: Callable[..., Any], *, argument_is: str) -> str:
    """The condition that `check` comes to. `argument_is`: what its first argument is, `response` or `files`.

    Raises:
        Untranslatable: its source cannot be read, or it does more than return one expression.
    """
    argument, expression = _expression(check)
    return _Reader({argument: argument_is}).read(expression)


def _expression(check: Callable[..., Any]) -> tuple[str, ast.expr]:
    """The name of the first argument, and what is returned."""
    function = _definition(check)
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments:
        raise Untranslatable("it takes no argument")
    if isinstance(function, ast.Lambda):
        return arguments[0].arg, function.body
    match [part for part in function.body if not _is_docstring(part)]:
        case [ast.Return(value=ast.expr() as value)]:
            return arguments[0].arg, value
    raise Untranslatable("it does more than return an expression")


def _definition(check: Callable[..., Any]) -> ast.Lambda | ast.FunctionDef:
    """Where it is defined: of several lambdas on a line, the smallest that all of its code lies in."""
    try:
        tree = ast.parse("".join(inspect.findsource(check)[0]))
        code = check.__code__
    except (OSError, TypeError, SyntaxError, AttributeError) as error:
        raise Untranslatable("its source cannot be read") from error
    # Without what has no width: it stands for the function as a whole.
    spans = [
        ((at, column), (end, end_column)) for at, end, column, end_column in code.co_positions() if end_column
    ]
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda | ast.FunctionDef)
        and all(
            (node.lineno, node.col_offset) <= start and end <= (node.end_lineno, node.end_col_offset)
            for start, end in spans
        )
    ]
    if not around or not spans:
        raise Untranslatable("its source cannot be read")
    return max(around, key=lambda node: (node.lineno, node.col_offset))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class _Reader(ast.NodeVisitor):
    """Writes expressions as CEL. `names` are the variables and what they are: `response`, `files`, or one bound by a comprehension."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def read(self, node: ast.expr) -> str:
        """The expression as CEL. Raises Untranslatable."""
        text: str = self.visit(node)
        return text

    def generic_visit(self, node: ast.AST) -> str:
        """What has no method of its own is not known to CEL."""
        raise Untranslatable(f"no condition says {ast.unparse(node)}")

    def visit_Constant(self, node: ast.Constant) -> str:
        return _literal(node.value)

    def visit_BoolOp(self, node: ast.BoolOp) -> str:
        parts = [self._grouped(v) if isinstance(v, ast.BoolOp) else self.read(v) for v in node.values]
        return f" {self._operator(node.op)} ".join(parts)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str:
        return f"{self._operator(node.op)}{self._grouped(node.operand)}"

    def visit_BinOp(self, node: ast.BinOp) -> str:
        return f"{self._grouped(node.left)} {self._operator(node.op)} {self._grouped(node.right)}"

    def visit_Compare(self, node: ast.Compare) -> str:
        if len(node.ops) > 1:
            return self.generic_visit(node)
        left, right = self.read(node.left), self.read(node.comparators[0])
        if isinstance(node.ops[0], (ast.In, ast.NotIn)):
            found = f"{right}.contains({left})" if right == "text" else f"{left} in {right}"
            return f"!({found})" if isinstance(node.ops[0], ast.NotIn) else found
        return f"{left} {self._operator(node.ops[0])} {right}"

    def visit_List(self, node: ast.List | ast.Tuple | ast.Set) -> str:
        return f"[{', '.join(map(self.read, node.elts))}]"

    visit_Tuple = visit_Set = visit_List  # noqa: N815 - ast's own names

    def visit_Name(self, node: ast.Name) -> str:
        known = self._names.get(node.id, "response")
        return self.generic_visit(node) if known == "response" else known

    def visit_Attribute(self, node: ast.Attribute) -> str:
        if self._is_response(node.value) and node.attr in _RESPONSE:
            return _RESPONSE[node.attr]
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> str:
        match node.slice:
            case ast.Constant(value=key):
                return _member(self.read(node.value), key)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> str:
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="json"), args=[]) if self._is_response(value):
                return "body"
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(value=key), *_]):
                return _member(self.read(value), key)
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _TEXT_METHODS:
                return f"{self.read(value)}.{_TEXT_METHODS[method]}({', '.join(map(self.read, node.args))})"
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _FUNCTIONS:
                return self._function(_FUNCTIONS[name], argument)
        return self.generic_visit(node)

    def _function(self, name: str, argument: ast.expr) -> str:
        if name in {"all", "exists"}:
            return self._quantifier(name, argument)
        return f"{name}({self.read(argument)})" if name else self.read(argument)

    def _quantifier(self, macro: str, argument: ast.expr) -> str:
        match argument:
            case ast.GeneratorExp(
                elt=element, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=[])]
            ):
                inner = _Reader({**self._names, name: name})
                return f"{self.read(source)}.{macro}({name}, {inner.read(element)})"
        return self.generic_visit(argument)

    def _is_response(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self._names.get(node.id) == "response"

    def _operator(self, operator: ast.AST) -> str:
        if type(operator) not in _OPERATORS:
            raise Untranslatable(f"no condition has the operator {type(operator).__name__}")
        return _OPERATORS[type(operator)]

    def _grouped(self, node: ast.expr) -> str:
        text = self.read(node)
        return f"({text})" if " " in text else text


def _member(value: str, key: Any) -> str:
    if value == "headers" and isinstance(key, str):
        return f"headers[{_literal(key.lower())}]"
    return f"{value}.{key}" if isinstance(key, str) and key.isidentifier() else f"{value}[{_literal(key)}]"


def _literal(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
            return f"'{escaped}'"
    raise Untranslatable(f"no condition says {value!r}")


def refuse_callable(
    name: str, given: Any, *, instead: str, argument_is: str, examples: Sequence[str]
) -> None:
    """Refuses what stands where Airflow's sensor takes a callable, and shows the condition to write; None passes.

    Raises:
        ValueError: always but for None.
    """
    if given is None:
        return
    if isinstance(given, str):
        raise ValueError(  # noqa: TRY004 - at parse time Airflow shows it as any other
            f"{name} takes a Python callable in Airflow's own sensor; give a condition as {instead}={given!r}."
        )
    try:
        shown, lead = [cel_of(given, argument_is=argument_is)], "here"
    except Untranslatable:
        shown, lead = list(examples), "e.g."
    head = f"{name} is a Python callable, and waitd runs nobody's Python. In its place write a condition in CEL, {lead}:"
    raise ValueError("\n".join([head, *(f"    {instead}={text!r}," for text in shown)]))
