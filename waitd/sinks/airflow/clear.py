"""The mode `clear`: runs a parked task again, which finds its outcome in the state store.

Airflow has state stores since 3.3. Below, an XCom of the task, which is deleted when it runs again,
has only which clear was sent, and the task reads the outcome from waitd.

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

from collections.abc import Mapping
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
from waitd.sinks.airflow.tasks import TaskDelivery, decode_xcom, unexpected

#: Seconds until the next check whether a clear has arrived.
_CLEAR_PAUSE = 5.0
#: The event of a clear in Airflow's audit log.
_CLEAR_EVENT = "post_clear_task_instances"


class ClearDelivery(TaskDelivery):
    """The mode `clear`."""

    _has_state_store = True

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
        stored = await self._store(self._outcome.for_state_store(self._task, self._now))
        if stored.status not in {200, 201, 204}:
            return unexpected(stored)
        response = await self._send_clear({"prevent_running_task": True})
        if response.status == 422 and not self._has_state_store:
            response = await self._send_clear({})  # Airflow has that field since 3.2
        if response.status == 200:
            return Delivered()
        # Airflow refused the clear. Without this deletion, the next attempt would find it in the
        # audit log.
        if self._has_state_store:
            await self._api.request("DELETE", *self._store_path, query=self._map_index)
        else:
            await self._update_xcom(None)
        return unexpected(response)

    async def _send_clear(self, guard: Mapping[str, bool]) -> JsonResponse:
        body = {
            "dry_run": False,
            "dag_run_id": self._task.run_id,
            "task_ids": [[self._task.task_id, self._task.map_index]],
            "only_failed": False,
            "reset_dag_runs": False,
            **guard,
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
        response = await self._api.request("GET", *self._store_path, query=self._map_index)
        if response.status == 404 and "error" in response.fields and self._has_state_store:
            self._has_state_store = False  # Airflow has no such route
            return await self._get_stored_outcome()
        if response.status != 200 and not (response.status == 404 and "detail" in response.fields):
            raise AirflowRequestFailed(
                DeliveryFailed(f"Airflow answered {response.status} to the request for the state store")
            )
        value = response.fields.get("value")
        # Below 3.2, what was pushed is JSON text, and what was changed JSON text of that.
        return value if self._has_state_store else decode_xcom(decode_xcom(value))

    async def _store(self, outcome: Mapping[str, Any]) -> JsonResponse:
        if self._has_state_store:
            body = {"value": outcome}
            return await self._api.request("PUT", *self._store_path, query=self._map_index, body=body)
        sent = {name: outcome[name] for name in ("event_id", "sent_at")}
        pushed = await self._push_xcom(self._target.key, sent)
        return await self._update_xcom(sent) if pushed.status == 409 else pushed

    async def _update_xcom(self, value: Any) -> JsonResponse:
        body = {"value": value, "map_index": self._task.map_index}
        return await self._api.request("PATCH", *self._store_path, body=body)

    @property
    def _store_path(self) -> tuple[str, ...]:
        return (*self._task_path, "state-store" if self._has_state_store else "xcomEntries", self._target.key)

    async def _has_event(self) -> bool:
        if is_from_event(await self._get_stored_outcome(), self._outcome.event_id):
            return True
        return await super()._has_event()
