"""Where a preset finds a job's state in the body of an answer, other than by CEL."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from waitd.core.http.job_answer import JobState

#: The path of a state that needs no CEL, such as `body.status.state` or `body.jobs[0].status`.
_PATH = re.compile(r"body(?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,3}\])*")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]{1,3})\]")

JsonPath = tuple[str | int, ...]


class StateItems(NamedTuple):
    """A state that is one of the conditions in a list, as in Kubernetes.

    Attributes:
        path: the path of the list. Its parent must exist, the list itself may be missing.
        where: the fields and values that an item must have.
        value: the field that is the state. Among several items a failure precedes a success.
        otherwise: the state when no item's state is on a list.
    """

    path: str
    where: tuple[tuple[str, str], ...]
    value: str
    otherwise: str


def is_path(source: str) -> bool:
    """Whether a state's source is a path, not CEL."""
    return _PATH.fullmatch(source) is not None


def parse_path(source: str) -> JsonPath:
    """Returns the steps of a path below `body`."""
    return tuple(name or int(index) for name, index in _STEP.findall(source))


def find_state(source: str | StateItems, listed_states: Sequence[JobState]) -> Callable[[Any], Any]:
    """Returns a function that finds the state in a body: at a path, or in a list's items.

    `listed_states` are those of the closed lists; among the states of items the first one counts.
    """
    if isinstance(source, StateItems):
        return _find_in_items(source, listed_states)
    path = parse_path(source)
    return lambda body: _value_at(body, path)


def _find_in_items(items: StateItems, listed_states: Sequence[JobState]) -> Callable[[Any], Any]:
    *above, last = parse_path(items.path)

    def find(body: Any) -> Any:
        parent = _value_at(body, tuple(above))
        if not isinstance(parent, dict):
            return None
        elements = parent.get(last) or []
        if not isinstance(elements, list):
            return None
        states = [
            item.get(items.value)
            for item in elements
            if isinstance(item, dict) and _item_matches(item, items)
        ]
        return next((state for state in listed_states if state in states), items.otherwise)

    return find


def _item_matches(item: Mapping[str, Any], items: StateItems) -> bool:
    return all(item.get(name) == value for name, value in items.where)


def _value_at(value: Any, path: JsonPath) -> Any:
    """Returns the value at a path; None when there is none."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
