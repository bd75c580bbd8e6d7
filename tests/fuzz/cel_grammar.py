"""Random CEL expressions over given variables, and random values for the variables."""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

#: Overloads of CEL's standard library: the result, then the text with its operands' types.
_OVERLOADS: Sequence[tuple[str, str]] = (
    *(("bool", f"${a} {op} ${a}") for a in ("int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration", "dyn") for op in ("==", "!=", "<", "<=", ">", ">=")),
    *(("bool", f"${a} {op} ${a}") for a in ("list", "map", "type", "null") for op in ("==", "!=")),
    *(("bool", f"$field {op} $literal") for op in ("==", "==", "!=", "!=", "<", "<=", ">", ">=", "in")), ("bool", "$literal == $field"), ("bool", "$field in [$string, $string]"),
    ("bool", "type($dyn) == $type"), ("bool", "$type in [$type, $type]"), ("bool", "dyn($any) == dyn($any)"),
    ("bool", "$bool && $bool"), ("bool", "$bool || $bool"), ("bool", "!$bool"), ("bool", "$bool ? $bool : $bool"),
    ("bool", "$any in $list"), ("bool", "$string in $map"), ("bool", "has($dyn.a)"), ("bool", "has($map.b)"),
    ("bool", "$list.exists($name, $bool)"), ("bool", "$dyn.all($name, $bool)"), ("bool", "$map.exists_one($name, $bool)"),
    ("bool", "$string.contains($string)"), ("bool", "$string.startsWith($string)"), ("bool", "$string.endsWith($string)"),
    ("bool", "$string.matches($pattern)"), ("bool", "matches($string, $pattern)"), ("bool", "bool($string)"), ("bool", "bool($dyn)"),
    *((a, f"${a} {op} ${a}") for a in ("int", "uint", "double") for op in "+-*/"),
    ("int", "$int % $int"), ("uint", "$uint % $uint"), ("int", "-$int"), ("double", "-$double"),
    *(("int", f"size(${a})") for a in ("string", "bytes", "list", "map", "dyn")), ("int", "$list.size()"),
    *((b, f"{b}(${a})") for a in ("int", "uint", "double", "string", "dyn") for b in ("int", "uint", "double", "string")),
    ("int", "int($timestamp)"), ("string", "string($timestamp)"), ("string", "string($duration)"), ("string", "string($bytes)"), ("string", "string($bool)"),
    ("string", "$string + $string"), ("bytes", "$bytes + $bytes"), ("bytes", "bytes($string)"), ("list", "$list + $list"),
    *(("string", f"$string.{name}()") for name in ("lowerAscii", "upperAscii", "trim", "reverse")), ("string", "strings.quote($string)"),
    ("string", "$string.replace($string, $string)"), ("string", "$string.replace($string, $string, $int)"), ("string", "$string.substring($int)"), ("string", "$string.substring($int, $int)"),
    ("string", "$string.charAt($int)"), ("string", "$string.format([$any, $any])"), ("string", "'%s %d'.format([$any, $int])"), ("string", "$list.join($string)"), ("string", "$list.join()"),
    ("list", "$string.split($string)"), ("list", "$string.split($string, $int)"), ("int", "$string.indexOf($string)"), ("int", "$string.lastIndexOf($string, $int)"),
    ("string", "$string.find($pattern)"), ("list", "$string.findAll($pattern)"), ("list", "$string.findAll($pattern, $int)"),
    ("bool", "$list.isSorted()"), *(("dyn", f"$list.{name}()") for name in ("sum", "min", "max")), ("bool", "$field.lowerAscii() == $string"), ("bool", "$field.trim() in [$string, $string]"),
    ("timestamp", "timestamp($string)"), ("timestamp", "timestamp($int)"), ("timestamp", "$timestamp + $duration"), ("timestamp", "$timestamp - $duration"),
    ("duration", "duration($string)"), ("duration", "$timestamp - $timestamp"), ("duration", "$duration + $duration"),
    *(("int", f"$timestamp.get{part}({zone})") for part in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "Hours", "Minutes", "Seconds", "Milliseconds") for zone in ("", "'Europe/Berlin'", "'-03:30'", "$string")),
    *(("int", f"$duration.get{part}()") for part in ("Hours", "Minutes", "Seconds", "Milliseconds")),
    ("list", "[$any, $any]"), ("list", "[$dyn]"), ("list", "$list.map($name, $any)"), ("list", "$dyn.map($name, $bool, $any)"), ("list", "$dyn.filter($name, $bool)"),
    ("map", "{$string: $any}"), ("map", "{$int: $any, $string: $dyn, true: 1}"), ("map", "{$any: $any}"),
    ("dyn", "$dyn.a"), ("dyn", "$dyn['b']"), ("dyn", "$dyn[$int]"), ("dyn", "$dyn[$string]"), ("dyn", "$list[$int]"), ("dyn", "dyn($any)"),
    ("dyn", "$bool ? $dyn : dyn($any)"), ("type", "type($any)"), ("type", "type($type)"),
    ("map", "google.protobuf.Struct{}"), ("int", "google.protobuf.Int64Value{value: $int}"), ("timestamp", "google.protobuf.Timestamp{seconds: $int, nanos: $int}"),
    ("duration", "google.protobuf.Duration{seconds: $int}"), ("dyn", "google.protobuf.Value{string_value: $string}"), ("dyn", "google.protobuf.Any{}"),
    ("bytes", "google.protobuf.BytesValue{value: $bytes}"), ("list", "google.protobuf.ListValue{}"), ("dyn", "optional.of($any)"), ("dyn", "$dyn.?a"),
)  # fmt: skip
_LITERALS: Mapping[str, Sequence[str]] = {
    "bool": ("true", "false"),
    "int": ("0", "1", "-1", "200", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "0x7f", "google.protobuf.NullValue.NULL_VALUE"),
    "uint": ("0u", "1u", "18446744073709551615u"),
    "double": ("0.0", "1.5", "-1e308", "1e400", "double('nan')", "(1.0 / 0.0)"),
    "string": ("''", "'a'", "'done'", "'b'", "'\\x00'", "'a\\x00b'", "'é\\u202e\\U0001F600'", "r'\\d'", "'''a\nb'''", "'\\ud800'", "'2026-11-30T00:00:00Z'", "'1h'", "'9' + '9'"),
    "bytes": ("b''", "b'\\xff\\x00'", "b'a'"),
    "null": ("null",),
    "timestamp": ("timestamp(0)", "timestamp('9999-12-31T23:59:59.999999999Z')", "timestamp('0001-01-01T00:00:00Z')"),
    "duration": ("duration('1h')", "duration('-315576000000s')", "duration('0.000000001s')"),
    "list": ("[]", "[1, 2]", "['a', 'b']", "[[], {}]", "[null, 1.0, 'a', true]"),
    "map": ("{}", "{'a': 1}", "{'a': {'b': null}}", "{1: 2, 'a': 3, 1u: 4}"),
    "type": ("int", "uint", "string", "bytes", "double", "bool", "list", "map", "null_type", "type", "timestamp", "duration", "dyn", ".int", "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.NullValue", "google.protobuf.Any", "optional_type"),
    "pattern": ("'a+'", "'(a|b)*$'", "'['", "'(.{0,30}){30}c'", "'\\\\pL'", "r'^done$'", "'(?i)É'"),
    "name": ("x", "x", "status", "body", "int", "type", "_", "__result__", "list", "true", "in", "payload", "a.b"),
}  # fmt: skip
_DYN = ("null", "dyn(1)", "dyn([1, 'a'])", "dyn({'a': [1]})")
#: The type of an operand in an overload.
_OPERAND = re.compile(r"\$(\w+)")
_SIMPLE = (
    "null",
    "true",
    "false",
    "0",
    "1",
    "200",
    "-1",
    "1.0",
    "''",
    "'a'",
    "'done'",
    "'a\\x00'",
    "['a', 'done']",
)
_TYPES = ("bool", "int", "uint", "double", "string", "bytes", "null", "timestamp", "duration", "list", "map", "type", "dyn")  # fmt: skip


class CelGrammar:
    """Builds expressions. `variables` has, by type, expressions that name the variables."""

    def __init__(self, variables: Mapping[str, Sequence[str]]) -> None:
        self._leaves = {
            name: (*_LITERALS.get(name, _DYN), *3 * tuple(variables.get(name, ())))
            for name in (*_TYPES, "pattern", "name")
        }
        fields = [field for name in ("dyn", "string", "int") for field in variables.get(name, ())]
        self._leaves |= {"field": tuple(fields), "literal": _SIMPLE}
        self._overloads = {
            name: [text for result, text in _OVERLOADS if result == name] for name in self._leaves
        }

    def expression(self, random: Random, result: str = "any", depth: int = 4) -> str:
        """Returns an expression that mostly has this type, and mostly is valid."""
        if result == "any" or random.random() < 0.02:
            result = random.choice(_TYPES)
        overloads = self._overloads[result]
        if depth <= 0 or not overloads or random.random() < 0.15:
            if random.random() < 0.1 and result not in {"pattern", "name"}:
                return "x"  # perhaps the variable of a loop around it
            return random.choice(self._leaves[result])
        return _OPERAND.sub(
            lambda operand: self._operand(random, operand[1], depth - 1), random.choice(overloads)
        )

    def _operand(self, random: Random, result: str, depth: int) -> str:
        operand = self.expression(random, result, depth)
        return operand if result == "name" or operand.isalnum() else f"({operand})"


_SCALARS: Sequence[Any] = (None, True, False, 0, 1, -1, 200, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, 1.0, 1.5, -1e308, "", "a", "done", "a\0b", "a\0", "\0", "é\u202e\U0001f600", "x" * 300)  # fmt: skip
_KEYS = ("a", "a", "b", "b", "a\0", "", "é", "status", "a-b")


def json_value(random: Random, depth: int = 3) -> Any:
    """Returns a JSON value that fits the expressions more often than chance would."""
    match random.randrange(6) if depth else 0:
        case 1 | 2:
            return {random.choice(_KEYS): json_value(random, depth - 1) for _ in range(random.randrange(4))}
        case 3:
            return [json_value(random, depth - 1) for _ in range(random.choice((0, 1, 2, 3, 60)))]
        case _:
            return random.choice(_SCALARS)
