"""The mode `clear`: runs a parked task again, which finds its outcome in the state store.

A second clear would stop or repeat the run that the first one began. So a clear is sent twice for
one delivery only if the first one provably had no effect:

- Airflow refused it; or
- the task is still parked under the same id (a clear changes the id), the minute in which the
  request may still be in flight has passed, and Airflow's audit log, which is written before the
  clear takes effect, has no entry with the id that is in the request's URL.

Where that cannot be proved, because the log has such an entry or cannot be read, the delivery is
dead, and its error says what to do: clear the task by hand, which then finds its outcome in the
state store, or redeliver, which sends the clear again.
"""

from typing import Any

from waitd.core.airflow.callback import (
    CLEAR_PARAMETER,
    CLEAR_SECONDS,
    PriorClear,
    clear_id,
    clear_sent_at,
    is_from_event,
    prior_clear,
)
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryPostponed, DeliveryRejected, Receipt
from waitd.core.waits.event import rfc3339
from waitd.outgoing import JsonResponse
from waitd.sinks.airflow.api import MAX_CLOCK_SKEW, MAX_LISTED, AirflowRequestFailed
from waitd.sinks.airflow.tasks import TaskDelivery, unexpected

#: Seconds until the next check whether a clear has arrived.
_CLEAR_PAUSE = 5.0
#: The event of a clear in Airflow's audit log.
_CLEAR_EVENT = "post_clear_task_instances"


class ClearDelivery(TaskDelivery):
    """The mode `clear`."""

    async def _send(self) -> Receipt:
        stored = await self._get_stored_outcome()
        match prior_clear(stored, self._outcome.event_id, now=self._now, created_at=self._created_at):
            case PriorClear.RECENT:
                return DeliveryPostponed(
                    f"a clear was sent without a response and may be in flight for {CLEAR_SECONDS:g} s",
                    _CLEAR_PAUSE,
                )
            case PriorClear.EARLIER if uncertainty := await self._why_clear_is_uncertain(
                clear_sent_at(stored)
            ):
                return DeliveryRejected(
                    f"a clear was sent, and {uncertainty}; a second one could stop the running task. Clear the task in "
                    "Airflow: its outcome is in the state store. Or redeliver if the task is still parked"
                )
        value = {"value": self._outcome.for_state_store(self._task, self._now)}
        put = await self._api.request("PUT", *self._store_path(), query=self._map_index, body=value)
        if put.status != 204:
            return unexpected(put)
        response = await self._send_clear()
        if response.status == 200:
            return Delivered()
        # Airflow refused the clear. Without this deletion, the next attempt would find it in the
        # audit log.
        await self._api.request("DELETE", *self._store_path(), query=self._map_index)
        return unexpected(response)

    async def _send_clear(self) -> JsonResponse:
        body = {
            "dry_run": False,
            "dag_run_id": self._task.run_id,
            "task_ids": [[self._task.task_id, self._task.map_index]],
            "only_failed": False,
            "reset_dag_runs": False,
            "prevent_running_task": True,
        }
        clear = {CLEAR_PARAMETER: clear_id(self._outcome.event_id, self._now)}
        path = ("dags", self._task.dag_id, "clearTaskInstances")
        return await self._api.request("POST", *path, query=clear, body=body)

    async def _why_clear_is_uncertain(self, sent_at: float) -> str | None:
        """Why the clear sent at this time may have an effect; None: Airflow never received it.

        Raises AirflowRequestFailed.
        """
        query = {"dag_id": self._task.dag_id, "run_id": self._task.run_id, "event": _CLEAR_EVENT}
        query |= {"order_by": "-event_log_id", "after": rfc3339(sent_at - MAX_CLOCK_SKEW)}
        request_id = clear_id(self._outcome.event_id, sent_at)
        count = 0
        try:
            async for entry in self._api.list("event_logs", "eventLogs", query=query):
                if request_id in str(entry.get("extra")):
                    return "Airflow's audit log has it"
                count += 1
        except AirflowRequestFailed as failed:
            if isinstance(failed.receipt, DeliveryRejected):
                return f"Airflow's audit log cannot be read ({failed})"
            raise
        return "Airflow's audit log is too long to look for it" if count >= MAX_LISTED else None

    async def _get_stored_outcome(self) -> Any:
        """The value in the state store, or None if there certainly is none.

        Any doubt raises AirflowRequestFailed, because a clear may follow.
        """
        response = await self._api.request("GET", *self._store_path(), query=self._map_index)
        if response.status != 200 and not (response.status == 404 and "detail" in response.fields):
            raise AirflowRequestFailed(
                DeliveryFailed(f"Airflow answered {response.status} to the request for the state store")
            )
        return response.fields.get("value")

    def _store_path(self) -> tuple[str, ...]:
        return (*self._task_path, "state-store", self._target.key)

    async def _has_event(self) -> bool:
        if is_from_event(await self._get_stored_outcome(), self._outcome.event_id):
            return True
        return await super()._has_event()
