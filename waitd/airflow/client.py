"""A synchronous client of waitd's HTTP API, built on httpx, which Airflow ships.

Every call can be repeated safely, so failed calls are retried, for a few seconds. The module
`patience` repeats those that a task cannot do without.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from waitd import __version__
from waitd.airflow.versions import AirflowException
from waitd.core.api_version import API_VERSION, API_VERSION_HEADER, format_version, serves

#: Pauses between the attempts, in seconds. Each gets up to 50 % of jitter.
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)
#: The longest Retry-After that is honoured, in seconds. After a longer one the call fails.
MAX_RETRY_AFTER = 15.0
#: Status codes after which the call is retried.
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504, 507})
#: The largest answer that is read, in bytes. That of a wait with all its deliveries is far smaller.
MAX_ANSWER = 2 * 1024 * 1024


class WaitdUnreachable(AirflowException):
    """waitd does not answer, or is temporarily unavailable. The task's retries apply."""


class WaitdVersionMismatch(AirflowException):
    """waitd is of a version whose API is not that of the provider. The task's retries apply."""


class WaitdRefused(AirflowException):
    """waitd refused the request.

    Attributes:
        status: the HTTP status.
        problem: the RFC 9457 document, with `title`, `detail` and `errors` (each has a `pointer`
            and a `detail`).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        errors = problem.get("errors")
        fields = [
            f"{item.get('pointer') or '/'}: {item.get('detail')}"
            for item in (errors if isinstance(errors, list) else ())
            if isinstance(item, dict)  # another server's problem may have anything there
        ]
        reason = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__("; ".join([f"waitd refused the request ({status}): {reason}", *fields]))


class WaitdClient:
    """Client of one waitd daemon. A context manager.

    Every method raises WaitdUnreachable, WaitdRefused or WaitdVersionMismatch.

    Args:
        url: URL of the daemon.
        api_key: API key to authenticate with.
        ca_file: CA certificates to verify the daemon's certificate with. Default: those of certifi.
        timeout: timeout of each step of a request, and of its answer's whole body, in seconds.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        timeout: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._sleep = sleep
        self._version_checked = False
        credentials = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            headers={**credentials, "Accept-Encoding": "identity"},
            timeout=timeout,
            verify=_tls_verification(ca_file),
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, body: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Submits a wait. The same body and key again return the same wait."""
        return self._call("POST", "/v1/waits", json=body, headers={"Idempotency-Key": idempotency_key})

    def get(self, wait_id: str, wait: float = 0.0) -> dict[str, Any]:
        """Gets a wait. `wait`: seconds (at most 60) to wait for its outcome."""
        query = {"wait": f"{wait:g}"} if wait else {}
        return self._call("GET", _path(wait_id), params=query, timeout=self._timeout + wait)

    def each(self, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yields the waits that have these labels, newest first."""
        query = {f"label.{name}": value for name, value in labels.items()} | {
            "limit": "1"
        }  # each may be large
        while True:
            page = self._call("GET", "/v1/waits", params=query)
            yield from page["waits"]
            if page["next_page_token"] is None:
                return
            query["page_token"] = page["next_page_token"]

    def cancel(self, wait_id: str) -> dict[str, Any]:
        """Cancels a wait and returns it. A wait that has already ended is returned unchanged."""
        try:
            return self._call("POST", _path(wait_id, ":cancel"), json={})
        except WaitdRefused as refused:
            if refused.status != 409:
                raise
            return self.get(wait_id)

    def is_ready(self) -> bool:
        """Whether the daemon accepts waits now. Raises WaitdUnreachable if it does not answer."""
        try:
            self._call("GET", "/readyz")
        except WaitdRefused:
            return False
        return True

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        for delay in (*RETRY_DELAYS, None):
            try:
                with self._http.stream(method, self.url + path, **request) as response:
                    document = self._read(response)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason, retry_after = f"does not answer: {error or type(error).__name__}", 0.0
            else:
                self._check_version(response.headers.get(API_VERSION_HEADER))
                if response.status_code not in RETRYABLE_STATUSES:
                    return self._checked(response.status_code, document)
                reason, retry_after = _describe(response.status_code, document), _retry_after(response)
            if delay is None or retry_after > MAX_RETRY_AFTER:
                break
            self._sleep(max(retry_after, delay * random.uniform(1.0, 1.5)))  # noqa: S311 - spreads calls, protects nothing
        raise WaitdUnreachable(
            f"waitd at {self.url} {reason}. Check that the daemon runs, and the connection to it."
        )

    def _check_version(self, api_version: str | None) -> None:
        """Checks the daemon's version of the API, once. A gateway's own answers have none."""
        if self._version_checked or api_version is None:
            return
        if not serves(api_version):
            raise WaitdVersionMismatch(
                f"waitd at {self.url} has version {api_version[:20]} of its API, and the provider waitd {__version__} needs "
                f"{format_version(API_VERSION)}: install the same version of waitd on both sides."
            )
        self._version_checked = True

    def _read(self, response: httpx.Response) -> dict[str, Any] | None:
        """Reads the JSON object that a response has; None if it has none, or too large a body."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return None
        content, deadline = bytearray(), time.monotonic() + self._timeout
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MAX_ANSWER:
                return None
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer did not arrive in time")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def _checked(self, status: int, document: dict[str, Any] | None) -> dict[str, Any]:
        if document is not None and status < 300:
            return document
        raise WaitdRefused(
            status,
            document
            or {
                "title": f"the server at {self.url} does not answer like waitd; check host and port of the connection"
            },
        )


def _path(wait_id: str, rest: str = "") -> str:
    return f"/v1/waits/{quote(wait_id, safe='')}{rest}"


def _tls_verification(ca_file: str | None) -> Any:
    if ca_file is None:
        return True
    import ssl  # noqa: PLC0415 - only with a CA file

    return ssl.create_default_context(cafile=ca_file)


def _describe(status: int, problem: Mapping[str, Any] | None) -> str:
    reason = problem and (problem.get("detail") or problem.get("title"))
    return f"is not available: HTTP {status}, {reason}" if reason else f"is not available: HTTP {status}"


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
