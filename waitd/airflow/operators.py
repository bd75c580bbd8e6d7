"""The operator: registers a wait with waitd, leaves its slot, and comes back with the outcome."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout

from waitd.airflow import outcomes
from waitd.airflow.client import WaitdClient, WaitdRefused, WaitdUnreachable
from waitd.airflow.hook import WaitdHook
from waitd.airflow.links import WaitLink
from waitd.airflow.registration import Task, registration_of, wait_body
from waitd.airflow.triggers import WaitdTrigger
from waitd.core.airflow.callback import EVENT_ID_KEY, OUTCOME_KEY, RESPONSE_OPTION
from waitd.core.airflow.registration import PARKED_SUBJECT, REGISTRATION_KEY, render_registration
from waitd.models import Registration, TaskOutcome

CallbackMode = Literal["resume", "set_state", "clear"]
#: Airflow's own default for sensors, seconds.
DEFAULT_TIMEOUT = 7 * 86400.0
#: How long the task holds its slot for an outcome that is there at once, seconds: the first poke comes with the registration.
FIRST_LOOK = 1.0
#: When a parked task is given up although waitd said nothing, counted from the wait's own timeout: waitd may be down for a while and
#: deliver late. Until then a lost waitd can be set up anew and reconciled.
SILENCE = timedelta(days=1)
#: Refusals that no retry mends: the wait itself is wrong.
_WRONG = frozenset({400, 413, 415, 422})


class WaitdOperator(HITLOperator):
    """Waits for whatever waitd can poke. The task's result is the wait's payload.

    Args:
        kind: what to poke: `http`, `s3_key`, `s3_keys_unchanged` or any other that the daemon knows.
        wait_params: that kind's own parameters. (`params` are Airflow's, as for every operator.)
        waitd_conn_id: the connection to waitd.
        callback_mode: how the task goes on: `resume` (in a worker, with callbacks and retries), `set_state` (without any worker) or
            `clear` (in a worker, from the start, as a further try).
        airflow_conn_id: the connection by which waitd knows this Airflow; default: as the waitd connection says.
        poke_interval: seconds or a timedelta, as `timeout` and `max_wait`.
        sinks: where the outcome is to go besides.
        labels: words by which the wait is found, beside those of the task.
    """

    template_fields: Collection[str] = (
        *("kind", "wait_params", "waitd_conn_id", "airflow_conn_id", "sinks", "labels"),
    )
    template_fields_renderers = {"wait_params": "json", "sinks": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (WaitLink(),)
    ui_color = "#e6f1f2"
    #: Set when the wait is registered; `WaitLink` shows it.
    wait_url = ""

    def __init__(
        self,
        *,
        kind: str,
        wait_params: Mapping[str, Any],
        waitd_conn_id: str = WaitdHook.default_conn_name,
        callback_mode: CallbackMode = "resume",
        airflow_conn_id: str | None = None,
        poke_interval: timedelta | float = 60,
        timeout: timedelta | float | None = None,
        soft_fail: bool = False,
        exponential_backoff: bool = False,
        max_wait: timedelta | float | None = None,
        silent_fail: bool = False,
        never_fail: bool = False,
        sinks: Sequence[Mapping[str, Any]] = (),
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError: an argument is wrong; at parse time, so that the DAG does not import."""
        seconds = DEFAULT_TIMEOUT if timeout is None else in_seconds("timeout", timeout)
        super().__init__(
            subject=PARKED_SUBJECT,
            options=[RESPONSE_OPTION],
            response_timeout=timedelta(seconds=seconds) + SILENCE,
            **kwargs,
        )
        if callback_mode not in get_args(CallbackMode):
            known = ", ".join(get_args(CallbackMode))
            raise ValueError(
                f"callback_mode is one of {known}. A new DAG run or an asset event is no way back to this task: give it as a sink, "
                'sinks=[{"kind": "airflow", "mode": "dag_run", …}].'
            )
        if soft_fail and never_fail:
            raise ValueError("soft_fail and never_fail are mutually exclusive, you can not provide both.")
        self.kind = kind
        self.wait_params = wait_params
        self.waitd_conn_id = waitd_conn_id
        self.callback_mode = callback_mode
        self.airflow_conn_id = airflow_conn_id
        self.poke_interval = in_seconds("poke_interval", poke_interval)
        self.timeout = seconds
        self.soft_fail = soft_fail
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else in_seconds("max_wait", max_wait)
        self.silent_fail = silent_fail
        self.never_fail = never_fail
        self.sinks = sinks
        self.labels = labels

    def parameters(self) -> Mapping[str, Any]:
        """The wait's `params`, from rendered fields. Sensors make theirs of their own arguments."""
        return self.wait_params

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """No form: `params` are for templates here, and what waitd hands over is checked against none."""
        return {}

    # ---------------------------------------------------------------- registering, and leaving

    def execute(self, context: Any) -> Any:
        """Registers the wait; returns its payload where the outcome is there already, else leaves the slot.

        Raises:
            WaitdUnreachable, WaitdRefused: it could not be registered; the task's retries apply.
            AirflowFailException: the wait itself is wrong, and no retry mends that.
            AirflowException: the outcome was there at once and is none to go on with; see `outcomes.conclude`.
        """
        task = Task.of(context["ti"])
        if self.callback_mode == "clear" and (left := self._outcome_left(context, task)) is not None:
            return self._concluded(left)
        hook = WaitdHook(self.waitd_conn_id)
        registration = registration_of(task, self._body(task, hook), datetime.now(UTC))
        with hook.get_conn() as client:
            wait = self._registered(client, registration)
            self.wait_url = hook.url_of(wait["id"])
            self.log.info("Registered as wait %s: %s", wait["id"], self.wait_url)
            outcome = wait["outcome"] or self._first_look(client, wait["id"])
        if outcome is not None:
            context["ti"].xcom_push(EVENT_ID_KEY, wait["id"])
            return self._ended(outcome["state"], outcome["payload"], outcome["message"])
        return self._park(context, hook, registration, wait["id"])

    def _body(self, task: Task, hook: WaitdHook) -> dict[str, Any]:
        timing = {
            "poke_interval": self.poke_interval,
            "timeout": self.timeout,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
            "soft_fail": self.soft_fail or self.never_fail,
            "silent_fail": self.silent_fail,
        }
        return wait_body(
            task,
            kind=self.kind,
            params=self.parameters(),
            timing=timing,
            mode=self.callback_mode,
            airflow_conn_id=self.airflow_conn_id or hook.airflow_conn_id,
            sinks=self.sinks,
            labels=self.labels,
        )

    def _registered(self, client: WaitdClient, registration: Registration) -> dict[str, Any]:
        try:
            return client.submit(registration.wait, registration.idempotency_key)
        except WaitdRefused as refused:
            if refused.status in _WRONG:
                raise AirflowFailException(str(refused)) from refused
            raise

    def _first_look(self, client: WaitdClient, wait_id: str) -> Mapping[str, Any] | None:
        """The outcome, if the first poke saw it. Nothing hangs on the answer: the wait is registered."""
        try:
            outcome: Mapping[str, Any] | None = client.get(wait_id, wait=FIRST_LOOK)["outcome"]
        except (WaitdUnreachable, WaitdRefused) as error:
            self.log.info("Not looked: %s", error)
            return None
        return outcome

    def _park(self, context: Any, hook: WaitdHook, registration: Registration, wait_id: str) -> Any:
        if self.callback_mode == "resume":
            self.body = render_registration(registration.model_dump(), self.wait_url)
            user = hook.airflow_user
            self.assigned_users = None if user is None else [{"id": user, "name": user}]
            return super().execute(context)  # raises TaskAwaitingInput
        context["task_state_store"].set(REGISTRATION_KEY, registration.model_dump())
        return self.defer(
            trigger=WaitdTrigger(wait_id), method_name="execute_complete", timeout=self.response_timeout
        )

    # ---------------------------------------------------------------- coming back

    def execute_complete(self, context: Any, event: Mapping[str, Any]) -> Any:
        """The task's result, when it has been answered; raises as `execute`."""
        if "error" in event:
            return self._ended("timeout", None, f"waitd did not answer in time: {event['error']}")
        if not event["params_input"]:
            by = (event.get("responded_by_user") or {}).get("name")
            self.log.warning("Answered by %s and not by waitd; it goes on waiting.", by)
            return self.execute(context)
        outcome = TaskOutcome.model_validate(event["params_input"])
        if outcome.ti_id != Task.of(context["ti"]).ti_id:
            self.log.warning("Answered by the wait %s of an older try; it goes on waiting.", outcome.event_id)
            return self.execute(context)
        return self._concluded(outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """As Airflow's sensors: a deferral that timed out is a sensor's timeout."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            return self._ended("timeout", None, f"waitd did not answer in time: {error}")

    def _outcome_left(self, context: Any, task: Task) -> TaskOutcome | None:
        """What waitd left for the try after the one that registered; taken away, so that no later try sees it."""
        store = context["task_state_store"]
        value = store.get(OUTCOME_KEY)
        if value is None:
            return None
        outcome = TaskOutcome.model_validate(value)
        is_for_us = outcome.try_number == task.try_number - 1
        if is_for_us:
            context["ti"].xcom_push(
                EVENT_ID_KEY, outcome.event_id
            )  # first: by it waitd sees that it has arrived
        else:
            self.log.info("An outcome was left for try %d; this is another.", outcome.try_number + 1)
        store.delete(OUTCOME_KEY)
        return outcome if is_for_us else None

    def _concluded(self, outcome: TaskOutcome) -> Any:
        hook = WaitdHook(self.waitd_conn_id)
        self.wait_url = hook.url_of(outcome.event_id)
        payload = outcome.payload
        if (
            payload is None and outcome.reason == "result_omitted"
        ):  # too large for the state store; waitd may have it
            with hook.get_conn() as client:
                payload = client.get(outcome.event_id)["outcome"]["payload"]
        return outcomes.conclude(outcome.state, payload, outcome.message, soft_fail=outcome.soft_fail)

    def _ended(self, state: str, payload: Any, message: str) -> Any:
        return outcomes.conclude(state, payload, message, soft_fail=self.soft_fail or self.never_fail)


def in_seconds(name: str, value: object) -> float:
    """An argument that is a timedelta or a number of seconds. Raises ValueError."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError(f"Operator arg `{name}` must be timedelta object or a non-negative number")
