"""A small synchronous client of a daemon's HTTP API, on the HTTP library that Airflow ships.

Every call is one that may be repeated: a submit carries an Idempotency-Key, a cancellation of what has ended is answered as such. So all of
them are tried again where that may help, and not longer than a task's slot is worth.
"""

import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from airflow.sdk.exceptions import AirflowException

#: Pauses before each further attempt, seconds; jitter up to half of it is added.
PAUSES = (0.5, 1.0, 2.0, 4.0)
#: The longest Retry-After that is waited for, seconds; who asks for more is asked again at the task's next try.
MAX_RETRY_AFTER = 15.0
#: Answers after which the same call may go through.
RETRYABLE = frozenset({429, 502, 503, 504})


class WaitdUnreachable(AirflowException):
    """No waitd answered, or only that it cannot now. The same call may go through later: a task is retried as it says itself."""


class WaitdRefused(AirflowException):
    """waitd answered that it will not.

    Attributes:
        status: the HTTP status.
        problem: the RFC 9457 document, with `title`, `detail` and `errors` (each a `pointer` and a `detail`).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        fields = [f"{item.get('pointer') or '/'}: {item.get('detail')}" for item in problem.get("errors", ())]
        said = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__("; ".join([f"waitd refused ({status}): {said}", *fields]))


class WaitdClient:
    """One daemon, seen from a task. A context manager; every method raises WaitdUnreachable and WaitdRefused."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        timeout: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url`: where the daemon listens; `timeout`: seconds that one request may take."""
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._sleep = sleep
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            headers=headers, timeout=timeout, verify=_verification(ca_file), follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, body: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """The wait that `POST /v1/waits` answers, new or (same key, same body) the one from before."""
        return self._call("POST", "/v1/waits", json=body, headers={"Idempotency-Key": idempotency_key})

    def get(self, wait_id: str, wait: float = 0.0) -> dict[str, Any]:
        """One wait; with `wait` (seconds, at most 60) as soon as it ends or they are over."""
        query = {"wait": f"{wait:g}"} if wait else {}
        return self._call("GET", _path(wait_id), params=query, timeout=self._timeout + wait)

    def cancel(self, wait_id: str) -> dict[str, Any]:
        """The wait, cancelled; one that has ended before as it is."""
        try:
            return self._call("POST", _path(wait_id, ":cancel"), json={})
        except WaitdRefused as refused:
            if refused.status != 409:
                raise
            return self.get(wait_id)

    def ready(self) -> bool:
        """Whether the daemon takes waits now. Raises WaitdUnreachable where nobody answers."""
        try:
            self._call("GET", "/readyz")
        except WaitdRefused:
            return False
        return True

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        for pause in (*PAUSES, None):
            try:
                answer = self._http.request(method, self.url + path, **request)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                trouble, wish = str(error) or type(error).__name__, 0.0
            else:
                if answer.status_code not in RETRYABLE:
                    return self._decoded(answer)
                trouble, wish = _said(answer), _retry_after(answer)
            if pause is None or wish > MAX_RETRY_AFTER:
                break
            self._sleep(max(wish, pause * random.uniform(1.0, 1.5)))  # noqa: S311 - spreads calls, protects nothing
        raise WaitdUnreachable(f"waitd at {self.url} cannot be used now: {trouble}")

    def _decoded(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            document = {
                "title": f"{self.url} does not answer as a waitd daemon does; is the connection right?"
            }
        elif answer.status_code < 300:
            return document
        raise WaitdRefused(answer.status_code, document)


def _path(wait_id: str, rest: str = "") -> str:
    return f"/v1/waits/{quote(wait_id, safe='')}{rest}"


def _verification(ca_file: str | None) -> Any:
    if ca_file is None:
        return True
    import ssl  # noqa: PLC0415 - only where certificates of one's own are used

    return ssl.create_default_context(cafile=ca_file)


def _said(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return f"HTTP {answer.status_code}, {problem.get('detail') or problem.get('title')}"
    except (ValueError, AttributeError):
        return f"HTTP {answer.status_code}"


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
