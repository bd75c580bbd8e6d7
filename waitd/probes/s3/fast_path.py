"""Fast path for the usual poke of `s3_key`: a single key that was absent at the last poke.

It sends a signed HEAD on an idle connection without a task, and handles "still absent" and "retry
later" where the response arrives. Every other response continues with `S3KeyProbe.poke`.

Measured CPU of one poke of the probe on a missing key: 23 µs with this module, 34 µs with the task
that `S3KeyProbe.poke` needs (`python tests/benchmarks/s3_layers.py --only missing`). A poke of the
whole daemon on a missing key takes 61 µs, so without this module it would take a sixth more.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Pending, Verdict
from waitd.ports import CancelPoke, OnVerdicts
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.s3.client import S3Client
from waitd.probes.transport.response import Http1Response
from waitd.probes.transport.taskless import TasklessPoke

ABSENT = Pending("absent", "The key does not exist.")


class AbsentKeyPoke(TasklessPoke):
    """Asks again for one key that was absent."""

    __slots__ = ("_address", "_client", "_endpoint", "_poke")

    def __init__(
        self,
        client: S3Client,
        endpoint: AwsEndpoint,
        address: tuple[str, str],
        poke: Callable[[], Coroutine[Any, Any, Sequence[Verdict]]],
    ) -> None:
        """`address` is bucket and key; `poke` runs the full poke, for all other responses."""
        self._client = client
        self._endpoint = endpoint
        self._address = address
        self._poke = poke

    def start(self, on_verdicts: OnVerdicts) -> CancelPoke:
        """Sends the request on an idle connection; if that fails, a task does the full poke."""
        self._on_verdicts = on_verdicts
        try:
            self._connection = self._client.send_head(self._endpoint, *self._address, self._on_response)
        except Exception:  # noqa: BLE001 - the full poke meets the same error
            self._connection = None
        if self._connection is None:
            self._finish_in_task(self._poke())
        return self.cancel

    def _on_response(self, response: Http1Response | Exception) -> None:
        verdict: Verdict | CredentialsRefused | None = None
        if not isinstance(response, Exception):
            verdict = ABSENT if response.status == 404 else self._client.retry_verdict(response)
        if verdict is None or isinstance(verdict, CredentialsRefused):
            self._finish_in_task(self._poke())
        else:
            self._on_verdicts([verdict])
