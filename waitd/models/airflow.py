"""What waitd and the Airflow provider exchange through Airflow."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from waitd.models.fields import Key, State, Time
from waitd.models.parsing import Strict


class TaskOutcome(BaseModel):
    """The outcome that waitd hands to a parked Airflow task.

    It is the `params_input` of the answer that resumes the task, or a value in the task's state
    store.
    `ti_id` and `try_number` are those of the registration: another try ignores the outcome.
    """

    model_config = ConfigDict(frozen=True)
    event_id: str = Field(description="The event's id, which is the wait's.")
    ti_id: str
    try_number: int
    state: State
    payload: Any = None
    message: str
    reason: str
    soft_fail: bool
    pokes: int | None = None
    seconds: float | None = Field(default=None, description="From the wait's acceptance to its end.")


class Registration(Strict):
    """What a parked task leaves in Airflow, so that its wait can be submitted again.

    waitd reads it after it has lost its disk.
    """

    wait: dict[str, Any] = Field(description="The body of `POST /v1/waits`, as it was sent.")
    idempotency_key: Key
    deadline: Time
