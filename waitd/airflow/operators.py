"""The operator that registers a wait with waitd, frees its slot and resumes with the outcome."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from waitd.airflow import arguments, outcomes, state_store
from waitd.airflow.client import WaitdClient, WaitdRefused, WaitdUnreachable
from waitd.airflow.hook import WaitdHook
from waitd.airflow.kinds import Kind
from waitd.airflow.links import WaitLink
from waitd.airflow.mapping import FailAtOnce
from waitd.airflow.patience import call_patiently
from waitd.airflow.registration import RegisteringTask, build_registration, build_wait
from waitd.airflow.triggers import WaitdTrigger
from waitd.airflow.versions import (
    HAS_STATE_STORE,
    RESUMES,
    AirflowFailException,
    CallbackMode,
    ParkingOperator,
    TaskDeferralTimeout,
    conf,
    resolve_mode,
)
from waitd.core.airflow.callback import EVENT_ID_KEY, RESPONSE_OPTION
from waitd.core.airflow.registration import PARKED_SUBJECT, render_registration
from waitd.models import Registration, TaskOutcome

#: The default timeout of Airflow's sensors, in seconds.
DEFAULT_TIMEOUT = 7 * 86400.0
#: How long a task tries to register its wait while waitd does not answer, in seconds.
DEFAULT_REGISTER_TIMEOUT = 600.0
#: How long the task holds its slot for an immediate outcome, in seconds. The first poke starts when
#: the wait is registered.
FIRST_POKE_SECONDS = 1.0
#: How long after the wait's timeout a parked task fails if waitd has not resumed it. Until then,
#: waitd may be down and deliver late, or be set up again and reconciled.
RESUME_GRACE_PERIOD = timedelta(days=1)
#: Status codes of refusals that a retry does not change: the wait itself is invalid.
_INVALID_WAIT_STATUSES = frozenset({400, 413, 415, 422})


class WaitdOperator(ParkingOperator, metaclass=FailAtOnce):
    """Wait for anything that waitd can poke, without holding a worker slot.

    The task registers a wait with waitd and parks. When the wait ends, the task resumes; its result
    is the wait's payload.

    Args:
        kind: what to poke: `http`, `s3_key`, `s3_keys_unchanged`, or any other kind of the daemon.
        wait_params: the parameters of this kind. (`params` are Airflow's, as in every operator.)
            Digits from a template become a number where the kind declares one.
        waitd_conn_id: the connection to waitd.
        callback_mode: how the task resumes. `resume`: in a worker, with callbacks and retries; it
            needs Airflow 3.3. `set_state`: without a worker; waitd sets the task's state. `clear`:
            in a worker, from the start, as another try. `auto`: `resume`, or else `clear`.
        airflow_conn_id: the connection that waitd uses to reach this Airflow. Default: the one
            named in the waitd connection.
        poke_interval: time between pokes, in seconds or as a timedelta.
        timeout: time until the wait times out, in seconds or as a timedelta. Default: 7 days.
        soft_fail: skip the task if the wait fails or times out.
        exponential_backoff: double the interval after each poke.
        max_wait: the longest interval with `exponential_backoff`, in seconds or as a timedelta.
        silent_fail: poke again after a refusal such as 403, instead of failing.
        never_fail: like `soft_fail`.
        register_timeout: how long the task tries to register its wait while waitd does not answer,
            in seconds or as a timedelta. It holds its slot meanwhile. Default: 10 minutes.
        submit: the job that waitd submits before the first poke, once whatever crashes: the
            parameters of the kind's `submit`.
        on_conflict: with `submit`, if such a job is running already: `wait`, `adopt` it, or `fail`.
        cancel_job_on: with `submit`, the outcomes after which waitd cancels the job: `cancelled`,
            as when the task is cleared, killed or marked, and `timeout`.
        wake_on: a signal with this key triggers a poke at once.
        sinks: further sinks that the outcome is delivered to.
        labels: labels by which the wait can be found, in addition to those of the task. The
            values become text.
    """

    template_fields: Collection[str] = (*("kind", "wait_params", *arguments.COMMON_TEMPLATE_FIELDS),)
    template_fields_renderers = {"wait_params": "json", "submit": "json", "sinks": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (WaitLink(),)
    ui_color = "#e6f1f2"
    #: The argument that has the wait's parameters; "": each is an argument of its own.
    parameters_argument: ClassVar[str] = "wait_params"
    #: They are called before the task parks. The base class sets them.
    notifiers: Sequence[Any]
    #: The URL of the wait, once it is registered. `WaitLink` shows it.
    wait_url = ""

    def __init__(
        self,
        *,
        kind: str,
        wait_params: Mapping[str, Any] | None,
        waitd_conn_id: str | None = WaitdHook.default_conn_name,
        callback_mode: CallbackMode = "auto",
        airflow_conn_id: str | None = None,
        poke_interval: timedelta | float = 60,
        timeout: timedelta | float | None = None,
        soft_fail: bool = False,
        exponential_backoff: bool = False,
        max_wait: timedelta | float | None = None,
        silent_fail: bool = False,
        never_fail: bool = False,
        register_timeout: timedelta | float = DEFAULT_REGISTER_TIMEOUT,
        submit: Mapping[str, Any] | None = None,
        on_conflict: str | None = None,
        cancel_job_on: Sequence[str] | None = None,
        wake_on: str | None = None,
        sinks: Sequence[Mapping[str, Any]] | None = None,
        labels: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError, when the DAG is parsed, if an argument is invalid."""
        seconds = DEFAULT_TIMEOUT if timeout is None else arguments.to_seconds("timeout", timeout)
        parking: dict[str, Any] = {
            "subject": PARKED_SUBJECT, "options": [RESPONSE_OPTION], "response_timeout": RESUME_GRACE_PERIOD,
        }  # fmt: skip
        super().__init__(**(parking if RESUMES else {}), **kwargs)
        if soft_fail and never_fail:
            raise ValueError("soft_fail and never_fail are mutually exclusive, you can not provide both.")
        self.kind = kind
        self.wait_params = wait_params
        self.waitd_conn_id = waitd_conn_id
        self.callback_mode = resolve_mode(callback_mode)
        self.airflow_conn_id = airflow_conn_id
        self.poke_interval = arguments.to_seconds("poke_interval", poke_interval)
        self.timeout = seconds
        if self.execution_timeout is not None and self.execution_timeout <= timedelta(0):
            raise ValueError(f"execution_timeout: must be above 0; received {self.execution_timeout}")
        self.response_timeout = timedelta(seconds=self.wait_timeout) + RESUME_GRACE_PERIOD
        self.soft_fail = soft_fail
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else arguments.to_seconds("max_wait", max_wait)
        self.silent_fail = silent_fail
        self.never_fail = never_fail
        self.register_timeout = arguments.to_seconds("register_timeout", register_timeout)
        self.submit = submit
        self.on_conflict = on_conflict
        self.cancel_job_on = cancel_job_on
        self.wake_on = wake_on
        self.sinks = sinks
        self.labels = labels
        if self.parameters_argument:  # sensors check their own arguments
            self.check_parameters(wait_params)

    def check_parameters(self, values: Any) -> Kind | None:
        """Checks what is known of the wait's parameters, and returns the kind.

        Raises:
            ValueError: says what is wrong, a line for each argument.
        """
        kind = None if arguments.is_templated(self.kind) else arguments.find_kind_of_wait(self.kind)
        problems = [
            *arguments.timing_problems(self.poke_interval, self.timeout, self.max_wait, self.kind, kind),
            *arguments.submit_problems(vars(self), self.kind, kind),
        ]
        if kind is not None:
            complete = self.submit is None  # else some come from the submitted job
            problems += arguments.parameter_problems(
                self.parameters_argument, values, kind.params, complete=complete
            )
        if problems:
            raise ValueError("\n".join(problems))
        return kind

    @property
    def wait_timeout(self) -> float:
        """Seconds until the wait times out: the `timeout`, or a shorter `execution_timeout`."""
        limit = self.execution_timeout
        return self.timeout if limit is None else min(self.timeout, limit.total_seconds())

    def parameters(self) -> Mapping[str, Any]:
        """The wait's `params`, rendered. Sensors build them from their arguments."""
        return self.wait_params or {}

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """Empty: the response form has no fields, and waitd's response is not validated."""
        return {}

    # ---------------------------------------------------------------- registering and parking

    def execute(self, context: Any) -> Any:
        """Register the wait and park, or return its payload if it ends with the first poke.

        Raises:
            WaitdUnreachable, WaitdRefused: the wait could not be registered, with patience. The
                task's retries apply.
            AirflowFailException: the wait is invalid, so the task is not retried.
            AirflowException: the wait ended at once without success; see `outcomes.conclude`.
        """
        task = RegisteringTask.from_task_instance(context["ti"])
        hook = WaitdHook(self.waitd_conn_id or WaitdHook.default_conn_name)
        if self.callback_mode == "clear":
            outcome = state_store.take_outcome(
                context,
                task,
                hook,
                airflow_conn_id=self._airflow_conn_id(hook),
                register_timeout=self.register_timeout,
                log=self.log,
            )
            if outcome is not None:  # a clear grants new retries, so they are counted here: two tries each
                return self._conclude(outcome, is_last=task.try_number // 2 > self.retries)
        body = self._build_wait(task, hook)
        with hook.get_conn() as client:
            wait = self._register(client, body, task.idempotency_key)
            self.wait_url = hook.wait_url(wait["id"])
            self.log.info("Registered wait %s: %s", wait["id"], self.wait_url)
            ended = None
            if self.callback_mode != "clear" or HAS_STATE_STORE:  # else a later try would take it again
                ended = wait["outcome"] or self._first_poke_outcome(client, wait["id"])
        if ended is not None:
            context["ti"].xcom_push(EVENT_ID_KEY, wait["id"])
            self.log.info(outcomes.describe(wait["id"], ended["state"], None, None, ended["message"]))
            return self._conclude_state(ended["state"], ended["payload"], ended["message"])
        # Built now: the timeout counts from when waitd accepted the wait.
        registration = build_registration(task, body, datetime.now(UTC))
        return self._park(context, hook, registration, wait["id"])

    def _airflow_conn_id(self, hook: WaitdHook) -> str:
        return self.airflow_conn_id or hook.airflow_conn_id

    def _build_wait(self, task: RegisteringTask, hook: WaitdHook) -> dict[str, Any]:
        timing = {
            "poke_interval": self.poke_interval,
            "timeout": self.wait_timeout,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
            "soft_fail": self.soft_fail or self.never_fail,
            "silent_fail": self.silent_fail,
        }
        try:
            arguments.check_rendered(vars(self), self.parameters_argument)
            params = self.parameters()
            kind = self.check_parameters(params)
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
        return build_wait(
            task,
            kind=self.kind,
            params=params if kind is None else arguments.convert(params, kind.params),
            timing=timing,
            mode=self.callback_mode,
            airflow_conn_id=self._airflow_conn_id(hook),
            min_heartbeat_interval=conf.getfloat("workers", "min_heartbeat_interval"),
            sinks=self.sinks or (),
            labels=arguments.as_texts(self.labels or {}),
            submit=arguments.build_submit(vars(self), kind),
            wake_on=None if self.wake_on is None else str(self.wake_on),
        )

    def _register(self, client: WaitdClient, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        try:
            return call_patiently(lambda: client.submit(body, key), self.register_timeout, self.log)
        except WaitdRefused as refused:
            if refused.status in _INVALID_WAIT_STATUSES:
                raise AirflowFailException(str(refused)) from None  # it is printed once
            raise

    def _first_poke_outcome(self, client: WaitdClient, wait_id: str) -> Mapping[str, Any] | None:
        """The outcome, if the first poke ended the wait.

        Errors do not matter: the wait is registered.
        """
        try:
            outcome: Mapping[str, Any] | None = client.get(wait_id, wait=FIRST_POKE_SECONDS)["outcome"]
        except (WaitdUnreachable, WaitdRefused) as error:
            self.log.info("The outcome of the first poke is not known: %s", error)
            return None
        return outcome

    def _park(self, context: Any, hook: WaitdHook, registration: Registration, wait_id: str) -> Any:
        if self.callback_mode == "resume":
            self.body = render_registration(registration.model_dump(), self.wait_url)
            user = hook.airflow_user
            self.assigned_users = None if user is None else [{"id": user, "name": user}]
            # Airflow would call them after it stored that the task parks. The hold-off starts then.
            for notifier in self.notifiers:
                notifier(context)
            self.notifiers = ()
            return super().execute(context)  # raises TaskAwaitingInput
        state_store.keep_registration(context, registration)
        return self.defer(
            trigger=WaitdTrigger(wait_id), method_name="execute_complete", timeout=self.response_timeout
        )

    # ---------------------------------------------------------------- resuming

    def execute_complete(self, context: Any, event: Mapping[str, Any]) -> Any:
        """Return the task's result when the parked task is answered. Raises like `execute`."""
        if "error" in event:
            return self._conclude_state(
                "timeout", None, f"waitd did not resume the task in time: {event['error']}"
            )
        if not event["params_input"]:
            by = (event.get("responded_by_user") or {}).get("name")
            self.log.warning("The response came from %s and not from waitd; waiting again.", by)
            return self.execute(context)
        outcome = TaskOutcome.model_validate(event["params_input"])
        if outcome.ti_id != RegisteringTask.from_task_instance(context["ti"]).ti_id:
            self.log.warning("The response is for wait %s of an older try; waiting again.", outcome.event_id)
            return self.execute(context)
        return self._conclude(outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Treat a deferral that timed out as a sensor timeout, like Airflow's sensors."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            return self._conclude_state("timeout", None, f"waitd did not resume the task in time: {error}")

    def _conclude(self, outcome: TaskOutcome, *, is_last: bool = False) -> Any:
        hook = WaitdHook(self.waitd_conn_id or WaitdHook.default_conn_name)
        self.wait_url = hook.wait_url(outcome.event_id)
        self.log.info(
            outcomes.describe(
                outcome.event_id, outcome.state, outcome.pokes, outcome.seconds, outcome.message
            )
        )
        payload = outcome.payload
        if payload is None and outcome.reason == "result_omitted":  # too large for Airflow's state store
            with hook.get_conn() as client:
                wait = call_patiently(lambda: client.get(outcome.event_id), self.register_timeout, self.log)
                payload = wait["outcome"]["payload"]
        return self._conclude_state(
            outcome.state, payload, outcome.message, soft_fail=outcome.soft_fail, is_last=is_last
        )

    def _conclude_state(
        self, state: str, payload: Any, message: str, *, soft_fail: bool | None = None, is_last: bool = False
    ) -> Any:
        limit = self.execution_timeout
        return outcomes.conclude(
            state,
            payload,
            message,
            soft_fail=self.soft_fail or self.never_fail if soft_fail is None else soft_fail,
            is_last=is_last,
            execution_timeout=limit if limit and limit.total_seconds() < self.timeout else None,
        )
