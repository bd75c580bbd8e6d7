"""What the head of a response says apart from headers that conditions read."""

from functools import lru_cache

import aiohttp

from waitd.core.http.answer import AnswerFacts
from waitd.core.http.headers import parse_rate_limit, parse_retry_after
from waitd.probes.transport.response import Http1Response

#: A response of either transport: of a session, or of the connection pool.
Response = aiohttp.ClientResponse | Http1Response


def facts_of(response: Response, now: float) -> AnswerFacts:
    """Returns the facts of a response; `now` is Unix seconds."""
    status = response.status
    limits_rate = status in {403, 429}
    if type(response) is Http1Response and not response.asks_to_wait and not limits_rate:
        return _facts_of_status(status)
    headers = response.headers
    pause = parse_retry_after(headers.get("Retry-After"), now, headers.get("Date"))
    if pause is None and limits_rate:
        pause = parse_rate_limit(headers, now)
    return _facts_of_status(status) if pause is None else AnswerFacts(status, pause)


@lru_cache(maxsize=1024)
def _facts_of_status(status: int) -> AnswerFacts:
    return AnswerFacts(status)
