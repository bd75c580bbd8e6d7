"""The airflow sink's parameters: a mode, and what it delivers to.

| mode | required | optional |
|---|---|---|
| `resume` | `dag_id`, `run_id`, `task_id`, `ti_id`, `try_number` | see below |
| `set_state` | as `resume` | `map_index`, `xcom_key` |
| `clear` | as `resume` | `map_index`, `state_store_key` |
| `dag_run` | `dag_id` | `new_dag_run_id`, `conf` |
| `asset_event` | `asset_uri` or `asset_id` | `partition_key` |

`resume` has the optional `map_index` and `min_heartbeat_interval`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from waitd.core.airflow.callback import (
    CONF_KEY,
    EVENT_ID_KEY,
    MIN_HEARTBEAT_INTERVAL,
    OUTCOME_KEY,
    RETURN_KEY,
    TaskTry,
)
from waitd.core.connections.connection import encode_segment
from waitd.core.errors import InvalidInput, Problem
from waitd.models import ConnId, Strict, Uuid, parse_model

Mode = Literal["resume", "set_state", "clear", "dag_run", "asset_event"]

#: An id, a key and an asset's URI, as long as Airflow allows, in characters.
AirflowId = Annotated[str, Field(min_length=1, max_length=250)]
AirflowKey = Annotated[str, Field(min_length=1, max_length=512)]
AssetUri = Annotated[str, Field(min_length=1, max_length=1500)]

_TASK_PARAMS = frozenset({"dag_id", "run_id", "task_id", "ti_id", "try_number"})
#: The required and the optional parameters of each mode.
PARAMS_BY_MODE: Mapping[Mode, tuple[frozenset[str], frozenset[str]]] = {
    "resume": (_TASK_PARAMS, frozenset({"map_index", "min_heartbeat_interval"})),
    "set_state": (_TASK_PARAMS, frozenset({"map_index", "xcom_key"})),
    "clear": (_TASK_PARAMS, frozenset({"map_index", "state_store_key"})),
    "dag_run": (frozenset({"dag_id"}), frozenset({"new_dag_run_id", "conf"})),
    "asset_event": (frozenset(), frozenset({"asset_uri", "asset_id", "partition_key"})),
}
#: Parameters that become one segment of a URL path.
_PATH_PARAMS = ("dag_id", "run_id", "task_id", "new_dag_run_id", "xcom_key", "state_store_key")


class AirflowParams(Strict):
    """The parameters of a delivery to Airflow."""

    conn_id: ConnId = Field(description="The connection with the URL of Airflow's API and the credentials.")
    mode: Mode = Field(
        default="resume", description="`resume`, `set_state`, `clear`, `dag_run` or `asset_event`; see below."
    )
    dag_id: AirflowId | None = Field(default=None, description="The DAG: of the task, or to run.")
    run_id: AirflowId | None = Field(default=None, description="The task's DAG run.")
    task_id: AirflowId | None = Field(default=None, description="The task.")
    map_index: Annotated[int, Field(ge=-1)] = Field(default=-1, description="The index of a mapped task.")
    ti_id: Uuid | None = Field(
        default=None, description="The task instance's id, which changes with each try."
    )
    try_number: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The number of the task's try."
    )
    min_heartbeat_interval: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=MIN_HEARTBEAT_INTERVAL,
        description="resume: Airflow's `[workers] min_heartbeat_interval`, in seconds.",
    )
    xcom_key: AirflowKey = Field(default=RETURN_KEY, description="set_state: the XCom that gets the payload.")
    state_store_key: AirflowKey = Field(
        default=OUTCOME_KEY, description="clear: the key in the task's state store that gets the outcome."
    )
    new_dag_run_id: AirflowId | None = Field(
        default=None, description="dag_run: the new run's id; default: `waitd__` and the wait's id."
    )
    conf: dict[str, Any] = Field(
        default_factory=dict, description="dag_run: the new run's conf; waitd adds the field `waitd`."
    )
    asset_uri: AssetUri | None = Field(default=None, description="asset_event: the asset's URI.")
    asset_id: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="asset_event: or its id in Airflow."
    )
    partition_key: AirflowId | None = Field(
        default=None, description="asset_event: the partition, for DAGs that run once per partition."
    )


class DagRunRequest(NamedTuple):
    """A DAG run to trigger. If `run_id` is None, the sink makes one from the wait's id."""

    dag_id: str
    run_id: str | None
    conf: Mapping[str, Any]


class AssetRef(NamedTuple):
    """An asset, named by either its URI or its id."""

    uri: str | None
    id: int | None
    partition_key: str | None


@dataclass(frozen=True, slots=True)
class AirflowTarget:
    """Parsed parameters.

    Attributes:
        dag_id: None in the mode `asset_event`.
        recipient: what gets the outcome.
        key: the key of the XCom, or in the mode `clear` of the state store.
        destination: the queue of the deliverer; there is one for each connection.
        min_heartbeat_interval: how late Airflow notices that the task has parked, in seconds.
    """

    conn_id: str
    mode: Mode
    dag_id: str | None
    recipient: TaskTry | DagRunRequest | AssetRef
    key: str
    destination: str
    min_heartbeat_interval: float


def parse_airflow_target(params: Mapping[str, Any]) -> AirflowTarget:
    """The destination that these parameters (without `kind`) name.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    parameters = parse_model(AirflowParams, dict(params))
    problems = list(_problems(parameters))
    if problems:
        raise InvalidInput(problems)
    key = parameters.state_store_key if parameters.mode == "clear" else parameters.xcom_key
    return AirflowTarget(
        parameters.conn_id,
        parameters.mode,
        parameters.dag_id,
        _recipient(parameters),
        key,
        f"airflow {parameters.conn_id}",
        parameters.min_heartbeat_interval,
    )


def _problems(parameters: AirflowParams) -> Iterator[Problem]:
    required, optional = PARAMS_BY_MODE[parameters.mode]
    present = {name for name in parameters.model_fields_set if getattr(parameters, name) is not None}
    for name in sorted(required - present):
        yield Problem(f"/{name}", f"mode {parameters.mode} requires it")
    for name in sorted(parameters.model_fields_set - required - optional - {"conn_id", "mode"}):
        yield Problem(f"/{name}", f"mode {parameters.mode} has no parameter {name}")
    if parameters.mode == "asset_event" and (parameters.asset_uri is None) == (parameters.asset_id is None):
        yield Problem("", "mode asset_event requires either asset_uri or asset_id")
    if CONF_KEY in parameters.conf:
        yield Problem(f"/conf/{CONF_KEY}", "waitd adds this field to conf itself; choose another name")
    if parameters.xcom_key == EVENT_ID_KEY:
        yield Problem("/xcom_key", "waitd stores the event's id in this XCom; choose another key")
    for name in _PATH_PARAMS:
        value = getattr(parameters, name)
        if value is not None and not _is_segment(value):
            yield Problem(f"/{name}", "it must not be . or .., or contain /, \\ or control characters")


def _is_segment(text: str) -> bool:
    """Whether `text` can be one segment of a URL path.

    Airflow decodes `%2F` before routing, so even an encoded slash would change the path.
    """
    try:
        encode_segment(text)
    except (ValueError, UnicodeEncodeError):
        return False
    return text.isprintable() and not {"/", "\\"} & set(text)


def _recipient(parameters: AirflowParams) -> TaskTry | DagRunRequest | AssetRef:
    match parameters.mode:
        case "dag_run":
            return DagRunRequest(parameters.dag_id or "", parameters.new_dag_run_id, parameters.conf)
        case "asset_event":
            return AssetRef(parameters.asset_uri, parameters.asset_id, parameters.partition_key)
        case _:
            return TaskTry(
                parameters.dag_id or "",
                parameters.run_id or "",
                parameters.task_id or "",
                parameters.map_index,
                parameters.ti_id or "",
                parameters.try_number or 0,
            )
