"""Query parameters: each one known, given once, and checked; else refused by name."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from aiohttp import web

from waitd.core.errors import InvalidInput, NotFound, Problem
from waitd.core.wait import WaitId
from waitd.models import MAX_LABELS, STATES, State
from waitd.ports import WaitFilter

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
#: The longest `?wait=`, seconds.
MAX_LONG_POLL = 60.0
#: Parameters that begin so are label filters.
LABEL = "label."

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS = re.compile(r"[0-9]{1,2}(\.[0-9]{1,6})?")
_COUNT = re.compile(r"[0-9]{1,4}")


def check_known(request: web.Request, known: frozenset[str]) -> None:
    """Refuses query parameters that the route does not know, and those given twice.

    Raises:
        InvalidInput: their names; the pointer treats the query as an object.
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
    """The wait that the path names. Raises NotFound where it cannot be one."""
    text = request.match_info["id"]
    if not _UUID.fullmatch(text):
        raise NotFound("there is no such wait")
    return WaitId(text)


def long_poll_seconds(request: web.Request) -> float:
    """`?wait=`, 0 where it is not given. Raises InvalidInput."""
    text = request.query.get("wait", "0")
    if not _SECONDS.fullmatch(text) or float(text) > MAX_LONG_POLL:
        raise InvalidInput.at("/wait", f"wait is a number of seconds from 0 to {MAX_LONG_POLL:g}")
    return float(text)


def wait_filter(query: Mapping[str, str], namespace: str) -> WaitFilter:
    """The waits that a list asks for.

    Raises:
        InvalidInput: a value is wrong.
    """
    state = query.get("state")
    if state is not None and state not in get_args(State):
        raise InvalidInput.at("/state", f"state is one of {', '.join(STATES)}")
    labels = {name.removeprefix(LABEL): value for name, value in query.items() if name.startswith(LABEL)}
    if "" in labels or len(labels) > MAX_LABELS:
        raise InvalidInput.at(f"/{LABEL}", f"write label.<name>=<value>, at most {MAX_LABELS} of them")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _COUNT.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise InvalidInput.at("/limit", f"limit is a whole number from 1 to {MAX_LIMIT}")
    token = query.get("page_token")
    before = None if token is None else _last_of_page(token)
    return WaitFilter(namespace, state, query.get("kind"), labels or None, before, int(limit))


def page_token(last: WaitId) -> str:
    """The token of the page after the one that ends with `last`. Opaque to callers."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def _last_of_page(token: str) -> WaitId:
    try:
        last = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        last = ""
    if not _UUID.fullmatch(last):
        raise InvalidInput.at("/page_token", "send next_page_token as the page before gave it")
    return WaitId(last)
