"""Converts and checks an operator's arguments: when its DAG is parsed, and again when it runs.

A template renders to text, so digits become a number where the kind declares one. What is still a
template, or the output of another task, is checked when it is rendered.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from math import inf, isfinite
from typing import Any

from waitd.airflow.kinds import Kind, Param, find_kind, known_kinds
from waitd.airflow.versions import conf
from waitd.core.cel_syntax import syntax_problem

#: The templated arguments that every operator has.
COMMON_TEMPLATE_FIELDS = (
    *("waitd_conn_id", "airflow_conn_id", "sinks", "labels"),
    *("submit", "on_conflict", "cancel_job_on", "wake_on"),
)

_DIGITS = re.compile(r"\s*[+-]?[0-9]+\s*")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "cel": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (Mapping,),
    "texts": (Mapping,),
    "array": (list,),
}
_NAMES = {"cel": "string", "texts": "mapping", "object": "mapping", "array": "list"}


def is_templated(value: object) -> bool:
    """Whether a value, or a part of it, is known only when the task runs."""
    match value:
        case str():
            return "{{" in value or "{%" in value
        case Mapping():
            return any(map(is_templated, value.values()))
        case list() | tuple() | set() | frozenset():
            return any(map(is_templated, value))
    return not (value is None or isinstance(value, int | float))


def as_text(value: object) -> str:
    """A value as text; booleans as in JSON."""
    return json.dumps(value) if isinstance(value, bool) else str(value)


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The values of labels or headers as text, without those that are None."""
    return {str(name): as_text(value) for name, value in values.items() if value is not None}


def convert(values: Mapping[str, Any], params: Mapping[str, Param]) -> dict[str, Any]:
    """The values with the types that the kind declares, where the conversion loses nothing."""
    return {
        name: _convert(value, params[name]) if name in params else value for name, value in values.items()
    }


def _convert(value: Any, param: Param) -> Any:  # noqa: PLR0911 - a return for each type
    if param.values is not None and value not in param.values:
        return next((each for each in param.values if str(each) == str(value)), value)
    match param.type, value:
        case "integer", str() if _DIGITS.fullmatch(value):
            return int(value)
        case "integer", float() if value.is_integer():
            return int(value)
        case "number", str():
            return _to_float(value)
        case "boolean", str() if value.strip().lower() in {"true", "false"}:
            return value.strip().lower() == "true"
        case "string" | "cel", int() | float() if not isinstance(value, bool):
            return str(value)
        case "texts", Mapping():
            return as_texts(value)
        case "array", tuple():
            return list(value)
        case "array", set() | frozenset():
            return sorted(value, key=str)
    return value


def _to_float(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if isfinite(number) else text


def find_kind_of_wait(name: str) -> Kind | None:
    """The kind that a wait's parameters are checked against.

    None: it is one of `[waitd] own_kinds`, which only the daemon knows.

    Raises:
        ValueError: there is no such kind.
    """
    if any(fnmatchcase(name, pattern) for pattern in _own_kinds()):
        return None
    kind = find_kind(name)
    if kind is None:
        raise ValueError(
            f"kind: {name!r} is unknown{_alike(name, known_kinds()) or '; known are ' + ', '.join(known_kinds())}. A kind "
            "of a preset of your own must be in Airflow's configuration: [waitd] own_kinds."
        )
    return kind


@cache
def _own_kinds() -> Sequence[str]:
    return [part.strip() for part in conf.get("waitd", "own_kinds", fallback="").split(",") if part.strip()]


#: The longest duration of an argument, in seconds: 300 years. Longer ones end after Python's dates.
LONGEST = 1e10


def to_seconds(name: str, value: object) -> float:
    """The value of an argument that is a timedelta or a number of seconds. Raises ValueError."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST:
        return float(value)
    raise ValueError(
        f"Operator arg `{name}` must be timedelta object or a non-negative number of at most {LONGEST:g} seconds"
    )


def timing_problems(
    poke_interval: float, timeout: float, max_wait: float | None, name: str, kind: Kind | None
) -> Iterator[str]:
    """What is wrong with the intervals of a wait, in seconds, by the daemon's limits."""
    shortest, longest = _limits()
    if not shortest <= poke_interval < inf:
        yield f"poke_interval: must be at least {shortest:,.15g} seconds; received {poke_interval:,.15g}"
    elif kind is not None and poke_interval < kind.min_poke_interval:
        yield f"poke_interval: must be at least {kind.min_poke_interval:g} seconds for {name}"
    if not 0 < timeout <= longest:
        yield f"timeout: must be above 0 and at most {longest:,.15g} seconds; received {timeout:,.15g}"
    if max_wait is not None and not poke_interval <= max_wait < inf:
        yield f"max_wait: must be at least the poke_interval, {poke_interval:,.15g} seconds; received {max_wait:,.15g}"


@cache
def _limits() -> tuple[float, float]:
    return (
        conf.getfloat("waitd", "min_poke_interval", fallback=0.1),
        conf.getfloat("waitd", "max_timeout", fallback=365 * 86_400.0),
    )


def submit_problems(arguments: Mapping[str, Any], name: str, kind: Kind | None) -> Iterator[str]:
    """What is wrong with `submit`, `on_conflict` and `cancel_job_on`, as far as it is known."""
    submit, conflict, cancel = arguments["submit"], arguments["on_conflict"], arguments["cancel_job_on"]
    if submit is None:
        if needless := [each for each in ("on_conflict", "cancel_job_on") if arguments[each]]:
            yield f"{' and '.join(needless)}: needs submit, by which waitd submits the job itself"
        return
    if kind is not None and kind.submit is None and isinstance(submit, Mapping):
        yield f"submit: a job of kind {name} cannot be submitted"
    elif kind is not None and kind.submit is not None:
        yield from parameter_problems("submit", submit, kind.submit)
    if not (conflict is None or is_templated(conflict) or conflict in {"wait", "adopt", "fail"}):
        yield f"on_conflict: must be wait, adopt or fail; received {conflict!r}"
    if not is_templated(cancel) and any(each not in ("cancelled", "timeout") for each in as_list(cancel)):
        yield f"cancel_job_on: a list of cancelled and timeout; received {cancel!r}"


def check_rendered(arguments: Mapping[str, Any], parameters_argument: str) -> None:
    """Checks what the templates of arguments with several values became.

    Raises:
        ValueError: it is no mapping, or `sinks` no list of them; names the arguments, but not their
            values, which may have credentials in them.
    """
    mappings = (parameters_argument, "submit", "labels", "headers", "request_params", "request_kwargs")
    values = {name: arguments[name] for name in (*mappings, "sinks") if arguments.get(name) is not None}
    problems = [
        f"{name}: must be a mapping when it is rendered; received {type(value).__name__}"
        for name, value in values.items()
        if name != "sinks" and not isinstance(value, Mapping)
    ]
    sinks = values.get("sinks", ())
    if not isinstance(sinks, list | tuple):
        problems.append(
            f"sinks: must be a list of mappings when it is rendered; received {type(sinks).__name__}"
        )
    elif others := [type(sink).__name__ for sink in sinks if not isinstance(sink, Mapping)]:
        problems.append(f"sinks: must be a list of mappings when it is rendered; it has {others[0]}")
    if problems:
        raise ValueError("\n".join(problems))


def build_submit(arguments: Mapping[str, Any], kind: Kind | None) -> Mapping[str, Any] | None:
    """The wait's `submit`, from rendered `submit`, `on_conflict` and `cancel_job_on`."""
    if arguments["submit"] is None:
        return None
    submit = convert(arguments["submit"], (kind and kind.submit) or {})
    if arguments["on_conflict"] is not None:
        submit["on_conflict"] = arguments["on_conflict"]
    if arguments["cancel_job_on"] is not None:
        submit["cancel_job_on"] = as_list(arguments["cancel_job_on"])
    return submit


def as_list(value: Any) -> list[Any]:
    """A text as a list of it, None as an empty list. A set has the same order in each process."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def parameter_problems(
    name: str, values: Any, params: Mapping[str, Param], *, complete: bool = True
) -> Iterator[str]:
    """What is wrong with an argument that has parameters, as far as it is known.

    Args:
        name: the argument; "": each parameter is an argument of its own.
        values: its value.
        params: the parameters that the kind has.
        complete: whether all the required ones must be there.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        if not is_templated(values):
            yield f"{name} must be a mapping; received {values!r}"
        return
    for param, value in convert(values, params).items():
        place = f"{name}[{param!r}]" if name else param
        if param not in params:
            yield f"{place}: unknown{_alike(param, params)}; known are {', '.join(sorted(params))}"
        elif value is None and complete and params[param].required:
            yield f"{place}: is required"
        elif value is not None and not is_templated(value):
            yield from (f"{place}: {problem}" for problem in _value_problems(value, params[param]))
    missing = [param for param, each in params.items() if each.required and param not in values]
    if missing and complete:
        yield f"{name or 'arguments'}: {', '.join(missing)} missing"


def _value_problems(value: Any, param: Param) -> Iterator[str]:
    if param.values is not None:
        if value not in param.values:
            yield f"must be one of {', '.join(map(repr, param.values))}; received {value!r}"
        return
    types = _TYPES.get(param.type)
    is_number = param.type in {"integer", "number"}
    if types is not None and (not isinstance(value, types) or (is_number and isinstance(value, bool))):
        yield f"must be of type {_NAMES.get(param.type, param.type)}; received {value!r}"
    elif param.type == "cel" and (mistake := syntax_problem(value)) is not None:
        yield f"not a condition in CEL: {mistake}"
    elif param.minimum is not None and value < param.minimum:
        yield f"must be at least {param.minimum}; received {value!r}"


def _alike(name: str, names: Any) -> str:
    alike = get_close_matches(name, names, 1)
    return f" (did you mean {alike[0]!r}?)" if alike else ""
