"""Query parameters: an unknown, repeated or invalid one is refused by name."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from aiohttp import web

from waitd.api.routing import RouteParameter
from waitd.core.errors import InvalidInput, NotFound, Problem
from waitd.core.waits.delivery import DeliveryId, DeliveryState
from waitd.core.waits.wait import WaitId
from waitd.models import ACTIONS, MAX_LABELS, STATES, UNREADABLE
from waitd.ports import AuditFilter, CostFilter, DeliveryFilter, WaitFilter

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
#: The longest `?wait=`, in seconds.
MAX_LONG_POLL = 60.0
#: How many days of costs are summed by default.
COST_DAYS = 30
#: The prefix of label filters.
LABEL = "label."
DELIVERY_STATES = tuple(state.value for state in DeliveryState)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS = re.compile(r"[0-9]{1,2}(\.[0-9]{1,6})?")
_NUMBER = re.compile(r"[0-9]{1,18}")
_COUNT = re.compile(r"[0-9]{1,4}")
#: When a key was created, and its id.
_KEY = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?(e[+-]?[0-9]{1,3})? [A-Za-z0-9_-]{1,128}")


LIMIT = RouteParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "The largest number of items.",
)
PAGE_TOKEN = RouteParameter("page_token", {"type": "string"}, "`next_page_token` of the previous page.")
WAIT = RouteParameter(
    "wait",
    {"type": "number", "minimum": 0, "maximum": MAX_LONG_POLL, "default": 0},
    "For how many seconds to wait for its end; decimals are allowed.",
)
#: The query parameters that each of the functions `…_filter` reads.
WAIT_FILTER = (
    RouteParameter(
        "state",
        {"enum": [*STATES, UNREADABLE]},
        "Only waits in this state; unreadable: those whose stored row cannot be read.",
    ),
    RouteParameter("kind", {"type": "string"}, "Only waits of this kind."),
    RouteParameter(
        LABEL,
        {
            "type": "object",
            "propertyNames": {"pattern": r"^label\..+$"},
            "additionalProperties": {"type": "string"},
            "maxProperties": MAX_LABELS,
            "examples": [{"label.dag_id": "nightly"}],
        },
        "Only waits with these labels; each is a parameter `label.<name>=<value>` of its own.",
        extra={"style": "form", "explode": True},
    ),
    LIMIT,
    PAGE_TOKEN,
)
DELIVERY_FILTER = (
    RouteParameter("state", {"enum": list(DELIVERY_STATES)}, "Only deliveries in this state."),
    RouteParameter("sink", {"type": "string"}, "Only deliveries to sinks of this kind."),
    RouteParameter(
        "wait_id", {"type": "string", "pattern": f"^{_UUID.pattern}$"}, "Only deliveries of this wait."
    ),
    LIMIT,
    PAGE_TOKEN,
)
AUDIT_FILTER = (
    RouteParameter("principal", {"type": "string"}, "Only what this principal did, e.g. `key:0a1b2c`."),
    RouteParameter("action", {"enum": list(ACTIONS)}, "Only changes of this kind."),
    RouteParameter("subject", {"type": "string"}, "Only changes of the wait or key with this id."),
    LIMIT,
    PAGE_TOKEN,
)
COST_FILTER = (
    RouteParameter(
        "since",
        {"type": "string", "format": "date"},
        f"The first day that is counted, UTC; default: {COST_DAYS} days ago.",
    ),
    RouteParameter(
        "by",
        {"type": "string", "default": "kind"},
        "`kind`, `day`, or one of the labels that the setting `cost.labels` names.",
    ),
    LIMIT,
    PAGE_TOKEN,
)


def check_known(request: web.Request, known: frozenset[str]) -> None:
    """Refuses unknown and repeated query parameters.

    Raises:
        InvalidInput: one problem per parameter; its pointer treats the query as an object.
    """
    if problems := list(_unknown_or_repeated(request, known)):
        raise InvalidInput(problems)


def _unknown_or_repeated(request: web.Request, known: frozenset[str]) -> Iterator[Problem]:
    for name, times in Counter(name for name, _ in request.query.items()).items():
        if name not in known and not (LABEL in known and name.startswith(LABEL)):
            names = ", ".join(sorted(f"{n}<name>" if n == LABEL else n for n in known)) or "none"
            yield Problem(f"/{name}", f"unknown query parameter {name!r}; known are: {names}")
        elif times > 1:
            yield Problem(f"/{name}", f"the query parameter {name!r} is given {times} times")


def wait_id(request: web.Request) -> WaitId:
    """Returns the wait id in the path; raises NotFound if it is not one."""
    text = request.match_info["id"]
    if not _UUID.fullmatch(text):
        raise NotFound("there is no such wait")
    return WaitId(text)


def long_poll_seconds(request: web.Request) -> float:
    """Returns the value of `?wait=`, 0 without it; raises InvalidInput."""
    text = request.query.get("wait", "0")
    if not _SECONDS.fullmatch(text) or float(text) > MAX_LONG_POLL:
        raise InvalidInput.at("/wait", f"wait is a number of seconds from 0 to {MAX_LONG_POLL:g}")
    return float(text)


def delivery_filter(query: Mapping[str, str], namespace: str | None) -> DeliveryFilter:
    """Returns the filter of a list of deliveries.

    Raises:
        InvalidInput: a value is not valid.
    """
    wait_id = query.get("wait_id")
    if wait_id is not None and not _UUID.fullmatch(wait_id):
        raise InvalidInput.at("/wait_id", "wait_id is the id of a wait")
    before = _last_of_previous(query)
    return DeliveryFilter(
        namespace,
        _choice(query, "state", DELIVERY_STATES),
        query.get("sink"),
        wait_id,
        None if before is None else DeliveryId(before),
        _limit(query),
    )


def wait_filter(query: Mapping[str, str], namespace: str | None) -> WaitFilter:
    """Returns the filter of a list of waits.

    Raises:
        InvalidInput: a value is not valid.
    """
    labels = {name.removeprefix(LABEL): value for name, value in query.items() if name.startswith(LABEL)}
    if "" in labels or len(labels) > MAX_LABELS:
        raise InvalidInput.at(f"/{LABEL}", f"write label.<name>=<value>, at most {MAX_LABELS} of them")
    before = _last_of_previous(query)
    return WaitFilter(
        namespace,
        _choice(query, "state", (*STATES, UNREADABLE)),
        query.get("kind"),
        labels or None,
        None if before is None else WaitId(before),
        _limit(query),
    )


def audit_filter(query: Mapping[str, str]) -> AuditFilter:
    """Returns the filter of a list of audit entries.

    Raises:
        InvalidInput: a value is not valid.
    """
    before = _last_of_previous(query, _NUMBER)
    return AuditFilter(
        query.get("principal"),
        _choice(query, "action", ACTIONS),
        query.get("subject"),
        None if before is None else int(before),
        _limit(query),
    )


def last_key(query: Mapping[str, str]) -> str | None:
    """Returns the time and id of the key that the previous page ended with; raises InvalidInput."""
    return _last_of_previous(query, _KEY)


def cost_filter(
    query: Mapping[str, str], namespace: str | None, labels: Sequence[str], today: date
) -> CostFilter:
    """Returns the filter of a cost summary. `labels` are those that costs can be summed by.

    Raises:
        InvalidInput: a value is not valid.
    """
    by = _choice(query, "by", ("kind", "day", *labels)) or "kind"
    since = query.get("since")
    if since is None:
        since = (today - timedelta(COST_DAYS)).isoformat()
    elif not _is_day(since):
        raise InvalidInput.at("/since", "since is a day such as 2026-11-21")
    return CostFilter(namespace, since, by, _limit(query), int(_last_of_previous(query, _NUMBER) or 0))


def _choice(query: Mapping[str, str], name: str, choices: Sequence[str]) -> str | None:
    value = query.get(name)
    if value is not None and value not in choices:
        raise InvalidInput.at(f"/{name}", f"{name} is one of {', '.join(choices)}")
    return value


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _COUNT.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise InvalidInput.at("/limit", f"limit is a whole number from 1 to {MAX_LIMIT}")
    return int(limit)


def page_token(last: str) -> str:
    """Returns the opaque token of the page after the one that ends with the id `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def _last_of_previous(query: Mapping[str, str], form: re.Pattern[str] = _UUID) -> str | None:
    """Returns the id that the previous page ended with; None for the first page."""
    token = query.get("page_token")
    if token is None:
        return None
    try:
        last = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        last = ""
    if not form.fullmatch(last):
        raise InvalidInput.at("/page_token", "send the next_page_token of the previous page unchanged")
    return last
