"""The airflow sink's parameters: which way back into Airflow, and to what. What is done with them is `waitd.sinks.airflow.sink`'s.

| mode | needs | may have |
|---|---|---|
| `resume` | `dag_id`, `run_id`, `task_id`, `ti_id`, `try_number` | `map_index` |
| `set_state` | the same | `map_index`, `xcom_key` |
| `clear` | the same | `map_index`, `state_store_key` |
| `dag_run` | `dag_id` | `new_dag_run_id`, `conf` |
| `asset_event` | `asset_uri` or `asset_id` | `partition_key` |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from waitd.core.airflow.callback import CONF_KEY, EVENT_ID_KEY, OUTCOME_KEY, RETURN_KEY, TaskTry
from waitd.core.connections.connection import encode_segment
from waitd.core.errors import InvalidInput, Problem
from waitd.models import ConnId, Strict, Uuid, parsed

Mode = Literal["resume", "set_state", "clear", "dag_run", "asset_event"]

#: Airflow's own limits, in characters: of ids and keys, of an asset's URI.
Id = Annotated[str, Field(min_length=1, max_length=250)]
Key = Annotated[str, Field(min_length=1, max_length=512)]
Uri = Annotated[str, Field(min_length=1, max_length=1500)]

_TASK = frozenset({"dag_id", "run_id", "task_id", "ti_id", "try_number"})
#: What each mode needs, and what it may have besides.
FIELDS: Mapping[Mode, tuple[frozenset[str], frozenset[str]]] = {
    "resume": (_TASK, frozenset({"map_index"})),
    "set_state": (_TASK, frozenset({"map_index", "xcom_key"})),
    "clear": (_TASK, frozenset({"map_index", "state_store_key"})),
    "dag_run": (frozenset({"dag_id"}), frozenset({"new_dag_run_id", "conf"})),
    "asset_event": (frozenset(), frozenset({"asset_uri", "asset_id", "partition_key"})),
}
#: What becomes a segment of a path.
_SEGMENTS = ("dag_id", "run_id", "task_id", "new_dag_run_id", "xcom_key", "state_store_key")


class AirflowParams(Strict):
    """The parameters of a way back into Airflow."""

    conn_id: ConnId = Field(description="The connection that knows Airflow's API and the credentials.")
    mode: Mode = Field(
        default="resume", description="`resume`, `set_state`, `clear`, `dag_run` or `asset_event`; see below."
    )
    dag_id: Id | None = Field(default=None, description="The DAG: of the task, or to run.")
    run_id: Id | None = Field(default=None, description="The task's DAG run.")
    task_id: Id | None = Field(default=None, description="The task.")
    map_index: Annotated[int, Field(ge=-1)] = Field(default=-1, description="Its index, where it is mapped.")
    ti_id: Uuid | None = Field(default=None, description="The task instance's id: another one at each try.")
    try_number: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Its try.")
    xcom_key: Key = Field(default=RETURN_KEY, description="set_state: the XCom that gets the payload.")
    state_store_key: Key = Field(
        default=OUTCOME_KEY, description="clear: the key in the task's state store that gets the outcome."
    )
    new_dag_run_id: Id | None = Field(
        default=None, description="dag_run: the new run's id; default: `waitd__` and the wait's id."
    )
    conf: dict[str, Any] = Field(
        default_factory=dict, description="dag_run: the new run's conf; `waitd` is put in."
    )
    asset_uri: Uri | None = Field(default=None, description="asset_event: the asset, by its URI.")
    asset_id: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="asset_event: or by its number in Airflow."
    )
    partition_key: Id | None = Field(
        default=None, description="asset_event: the partition, for DAGs that run once for each."
    )


class DagRunRequest(NamedTuple):
    """A DAG to run; `run_id` None: named after the wait."""

    dag_id: str
    run_id: str | None
    conf: Mapping[str, Any]


class AssetRef(NamedTuple):
    """An asset, by the one of the two that is not None."""

    uri: str | None
    id: int | None
    partition_key: str | None


@dataclass(frozen=True, slots=True)
class AirflowTarget:
    """Parsed parameters. `key` is the XCom's or the state store's; `dag_id` is None where a mode names no DAG."""

    conn_id: str
    mode: Mode
    dag_id: str | None
    place: TaskTry | DagRunRequest | AssetRef
    key: str
    destination: str


def parse_airflow_target(params: Mapping[str, Any]) -> AirflowTarget:
    """The target that these parameters (without `kind`) name.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    given = parsed(AirflowParams, dict(params))
    problems = list(_problems(given))
    if problems:
        raise InvalidInput(problems)
    key = given.state_store_key if given.mode == "clear" else given.xcom_key
    return AirflowTarget(
        given.conn_id, given.mode, given.dag_id, _place(given), key, f"airflow {given.conn_id}"
    )


def _problems(given: AirflowParams) -> Iterator[Problem]:
    needed, optional = FIELDS[given.mode]
    named = {name for name in given.model_fields_set if getattr(given, name) is not None}
    for name in sorted(needed - named):
        yield Problem(f"/{name}", f"mode {given.mode} needs it")
    for name in sorted(given.model_fields_set - needed - optional - {"conn_id", "mode"}):
        yield Problem(f"/{name}", f"mode {given.mode} knows no {name}")
    if given.mode == "asset_event" and (given.asset_uri is None) == (given.asset_id is None):
        yield Problem("", "mode asset_event needs either asset_uri or asset_id")
    if CONF_KEY in given.conf:
        yield Problem(f"/conf/{CONF_KEY}", "this field of conf tells of the wait; choose another name")
    if given.xcom_key == EVENT_ID_KEY:
        yield Problem("/xcom_key", "this XCom holds the event's id; choose another name")
    for name in _SEGMENTS:
        value = getattr(given, name)
        if value is not None and not _is_segment(value):
            yield Problem(
                f"/{name}", "no single segment of a path: it is . or .., or has /, \\ or control characters"
            )


def _is_segment(text: str) -> bool:
    """Whether it can stand in a path. Airflow decodes `%2F` before it routes, so a slash would be another path."""
    try:
        encode_segment(text)
    except (ValueError, UnicodeEncodeError):
        return False
    return text.isprintable() and not {"/", "\\"} & set(text)


def _place(given: AirflowParams) -> TaskTry | DagRunRequest | AssetRef:
    match given.mode:
        case "dag_run":
            return DagRunRequest(given.dag_id or "", given.new_dag_run_id, given.conf)
        case "asset_event":
            return AssetRef(given.asset_uri, given.asset_id, given.partition_key)
        case _:
            return TaskTry(
                given.dag_id or "",
                given.run_id or "",
                given.task_id or "",
                given.map_index,
                given.ti_id or "",
                given.try_number or 0,
            )
