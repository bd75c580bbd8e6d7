"""Translates Python callables to CEL, for the error that refuses a `response_check` or `check_fn`.

waitd does not run users' Python. Common callables are translated from their source, so that the
error shows the condition to write instead. For others it shows an example.
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
#: Attributes of the response object in `response_check`, and their names in a condition.
_RESPONSE = {"status_code": "status", "text": "text", "headers": "headers", "ok": "status < 400"}
#: Methods of strings, and their names in CEL.
_TEXT_METHODS = {
    "startswith": "startsWith",
    "endswith": "endsWith",
    "lower": "lowerAscii",
    "upper": "upperAscii",
}

#: Functions, and their names in CEL. "": the argument is used as it is.
_FUNCTIONS = {"len": "size", "bool": "", "all": "all", "any": "exists", "str": "string", "int": "int"}


class Untranslatable(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """The callable cannot be expressed in CEL, or is too complex for this translation."""


def callable_to_cel(check: Callable[..., Any], *, argument_is: str) -> str:
    """Translates a callable to a CEL condition.

    `argument_is` says what its first argument is: `response` or `files`.

    Raises:
        Untranslatable: its source is not available, or it does more than return one expression.
    """
    argument, expression = _returned_expression(check)
    return _CelWriter({argument: argument_is}).write(expression)


def _returned_expression(check: Callable[..., Any]) -> tuple[str, ast.expr]:
    """The name of the first argument, and the returned expression."""
    function = _find_definition(check)
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments:
        raise Untranslatable("it takes no argument")
    if isinstance(function, ast.Lambda):
        return arguments[0].arg, function.body
    match [part for part in function.body if not _is_docstring(part)]:
        case [ast.Return(value=ast.expr() as value)]:
            return arguments[0].arg, value
    raise Untranslatable("it does more than return an expression")


def _find_definition(check: Callable[..., Any]) -> ast.Lambda | ast.FunctionDef:
    """The definition of a callable.

    Among several lambdas on a line, the smallest that contains its code.
    """
    try:
        tree = ast.parse("".join(inspect.findsource(check)[0]))
        code = check.__code__
    except (OSError, TypeError, SyntaxError, AttributeError) as error:
        raise Untranslatable("its source is not available") from error
    # Positions without a width stand for the whole function.
    spans = [
        ((at, column), (end, end_column)) for at, end, column, end_column in code.co_positions() if end_column
    ]
    candidates = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda | ast.FunctionDef)
        and all(
            (node.lineno, node.col_offset) <= start and end <= (node.end_lineno, node.end_col_offset)
            for start, end in spans
        )
    ]
    if not candidates or not spans:
        raise Untranslatable("its source is not available")
    return max(candidates, key=lambda node: (node.lineno, node.col_offset))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class _CelWriter(ast.NodeVisitor):
    """Writes Python expressions as CEL.

    `names` maps variables to what they are: `response`, `files`, or themselves if a comprehension
    binds them.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def write(self, node: ast.expr) -> str:
        """The expression in CEL. Raises Untranslatable."""
        text: str = self.visit(node)
        return text

    def generic_visit(self, node: ast.AST) -> str:
        """Refuses every node that has no method here."""
        raise Untranslatable(f"CEL has no equivalent of {ast.unparse(node)}")

    def visit_Constant(self, node: ast.Constant) -> str:
        return _literal(node.value)

    def visit_BoolOp(self, node: ast.BoolOp) -> str:
        parts = [self._grouped(v) if isinstance(v, ast.BoolOp) else self.write(v) for v in node.values]
        return f" {self._operator(node.op)} ".join(parts)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str:
        return f"{self._operator(node.op)}{self._grouped(node.operand)}"

    def visit_BinOp(self, node: ast.BinOp) -> str:
        return f"{self._grouped(node.left)} {self._operator(node.op)} {self._grouped(node.right)}"

    def visit_Compare(self, node: ast.Compare) -> str:
        if len(node.ops) > 1:
            return self.generic_visit(node)
        left, right = self.write(node.left), self.write(node.comparators[0])
        if isinstance(node.ops[0], (ast.In, ast.NotIn)):
            member = f"{right}.contains({left})" if right == "text" else f"{left} in {right}"
            return f"!({member})" if isinstance(node.ops[0], ast.NotIn) else member
        return f"{left} {self._operator(node.ops[0])} {right}"

    def visit_List(self, node: ast.List | ast.Tuple | ast.Set) -> str:
        return f"[{', '.join(map(self.write, node.elts))}]"

    visit_Tuple = visit_Set = visit_List  # noqa: N815 - ast's own names

    def visit_Name(self, node: ast.Name) -> str:
        name = self._names.get(node.id, "response")
        return self.generic_visit(node) if name == "response" else name

    def visit_Attribute(self, node: ast.Attribute) -> str:
        if self._is_response(node.value) and node.attr in _RESPONSE:
            return _RESPONSE[node.attr]
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> str:
        match node.slice:
            case ast.Constant(value=key):
                return _member(self.write(node.value), key)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> str:
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="json"), args=[]) if self._is_response(value):
                return "body"
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(value=key), *_]):
                return _member(self.write(value), key)
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _TEXT_METHODS:
                return f"{self.write(value)}.{_TEXT_METHODS[method]}({', '.join(map(self.write, node.args))})"
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _FUNCTIONS:
                return self._function(_FUNCTIONS[name], argument)
        return self.generic_visit(node)

    def _function(self, name: str, argument: ast.expr) -> str:
        if name in {"all", "exists"}:
            return self._quantifier(name, argument)
        return f"{name}({self.write(argument)})" if name else self.write(argument)

    def _quantifier(self, macro: str, argument: ast.expr) -> str:
        match argument:
            case ast.GeneratorExp(
                elt=element, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=[])]
            ):
                inner = _CelWriter({**self._names, name: name})
                return f"{self.write(source)}.{macro}({name}, {inner.write(element)})"
        return self.generic_visit(argument)

    def _is_response(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self._names.get(node.id) == "response"

    def _operator(self, operator: ast.AST) -> str:
        if type(operator) not in _OPERATORS:
            raise Untranslatable(f"CEL has no equivalent of the operator {type(operator).__name__}")
        return _OPERATORS[type(operator)]

    def _grouped(self, node: ast.expr) -> str:
        text = self.write(node)
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
    raise Untranslatable(f"CEL has no equivalent of {value!r}")


def refuse_callable(
    name: str, value: Any, *, instead: str, argument_is: str, examples: Sequence[str]
) -> None:
    """Refuses an argument for which Airflow's sensor takes a callable.

    Raises:
        ValueError: `value` is not None. The message shows the condition to write instead.
    """
    if value is None:
        return
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - Airflow shows it as a DAG import error like any other
            f"{name} is a Python callable in Airflow's own sensor. Pass a condition as {instead}={value!r}."
        )
    try:
        conditions, lead = [callable_to_cel(value, argument_is=argument_is)], "here"
    except Untranslatable:
        conditions, lead = list(examples), "e.g."
    head = f"{name} is a Python callable, which waitd cannot run. Write a condition in CEL instead, {lead}:"
    raise ValueError("\n".join([head, *(f"    {instead}={text!r}," for text in conditions)]))
