"""Parses an export of Airflow's task history into sensor runs, whose waiting can then be priced.

An export is CSV with a header, a JSON array, JSON Lines, or a response of Airflow's API
(`{"task_instances": […]}`). Its columns are `dag_id`, `task_id`, `operator`, `start` and `end` (ISO
8601; UTC without an offset), and optionally `poke_interval` in seconds and `mode`. Airflow's names
`start_date`, `end_date` and `operator_name` are accepted, too.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any, NamedTuple

from waitd.core.costs.model import DEFAULT_KIND, CostMode, MeasuredUsage, WaitingTotals
from waitd.core.errors import InvalidInput, Problem

#: Airflow's default, in seconds.
DEFAULT_POKE_INTERVAL = 60.0
#: Parsing stops after this many problems.
_MAX_PROBLEMS = 20
_NAMES: Mapping[str, Sequence[str]] = {
    "dag_id": ("dag_id",),
    "task_id": ("task_id",),
    "operator": ("operator", "operator_name"),
    "start": ("start", "start_date"),
    "end": ("end", "end_date"),
    "poke_interval": ("poke_interval",),
    "mode": ("mode",),
}
_NEEDED = ("dag_id", "task_id", "operator", "start", "end")
_MODES = {
    "poke": CostMode.POKE,
    "reschedule": CostMode.RESCHEDULE,
    "defer": CostMode.DEFER,
    "deferrable": CostMode.DEFER,
}


class SensorRun(NamedTuple):
    """One finished sensor task.

    Times are Unix seconds; `mode` is None if the export does not have it.
    """

    dag_id: str
    task_id: str
    operator: str
    start: float
    end: float
    poke_interval: float
    mode: CostMode | None

    @property
    def kind(self) -> str:
        """The most similar kind of wait; `other` for sensors of neither HTTP nor S3."""
        name = self.operator.rpartition(".")[2].lower()
        if name.startswith("s3keysunchanged"):
            return "s3_keys_unchanged"
        if name.startswith("s3key"):
            return "s3_key"
        return "http" if name.startswith("http") else "other"

    def waiting(self, poke_cpu_seconds: Mapping[str, float], wait_bytes: float) -> WaitingTotals:
        """The same wait in waitd, with a callback that resumes the task.

        The number of pokes follows from duration and interval.

        Args:
            poke_cpu_seconds: CPU seconds of one poke in waitd, by kind.
            wait_bytes: memory of one wait in waitd, in bytes.
        """
        seconds = self.end - self.start
        pokes = 1 + int(seconds / self.poke_interval)
        each = poke_cpu_seconds.get(self.kind, poke_cpu_seconds[DEFAULT_KIND])
        measured = MeasuredUsage(pokes * each, seconds * wait_bytes)
        return WaitingTotals(self.kind, 1, seconds, pokes, 1, 1, measured)


class TaskHistory(NamedTuple):
    """The sensor runs of an export, and how many lines were other tasks or unfinished sensors."""

    runs: Sequence[SensorRun]
    others: int
    unfinished: int


def parse_task_history(text: str, *, poke_interval: float = DEFAULT_POKE_INTERVAL) -> TaskHistory:
    """Parses an export. `poke_interval` applies to lines without one.

    Raises:
        InvalidInput: the export is malformed; the pointers are lines, such as `/line/17`.
    """
    return build_task_history(_records(text), poke_interval=poke_interval)


def build_task_history(
    records: Iterable[tuple[int, Mapping[str, Any]]], *, poke_interval: float = DEFAULT_POKE_INTERVAL
) -> TaskHistory:
    """Collects the sensor runs among task records, which come with their line numbers.

    Raises:
        InvalidInput: as `parse_task_history`.
    """
    runs: list[SensorRun] = []
    problems: list[Problem] = []
    others = unfinished = 0
    for line, record in records:
        fields = {name: _first(record, names) for name, names in _NAMES.items()}
        if not _is_sensor(fields):
            others += 1
        elif fields["operator"] and fields["start"] is not None and fields["end"] is None:
            unfinished += 1
        else:
            try:
                runs.append(_run(fields, poke_interval))
            except ValueError as error:
                problems.append(Problem(f"/line/{line}", str(error)))
                if len(problems) == _MAX_PROBLEMS:
                    break
    if problems:
        raise InvalidInput(problems)
    return TaskHistory(runs, others, unfinished)


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of these fields that is neither missing nor empty."""
    return next((record[name] for name in names if record.get(name) not in {None, ""}), None)


def _is_sensor(fields: Mapping[str, Any]) -> bool:
    return (
        fields["operator"] is None
        or "sensor" in str(fields["operator"]).lower()
        or fields["poke_interval"] is not None
        or fields["mode"] is not None
    )


def _run(fields: Mapping[str, Any], poke_interval: float) -> SensorRun:
    for name in _NEEDED:
        if fields[name] is None:
            raise ValueError(f"{name} is missing")
    start, end = _parse_time("start", fields["start"]), _parse_time("end", fields["end"])
    if end < start:
        raise ValueError("end is before start")
    interval = poke_interval if fields["poke_interval"] is None else _parse_seconds(fields["poke_interval"])
    mode = fields["mode"]
    if mode is not None and str(mode).lower() not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, not {mode!r}")
    return SensorRun(
        str(fields["dag_id"]),
        str(fields["task_id"]),
        str(fields["operator"]),
        start,
        end,
        interval,
        None if mode is None else _MODES[str(mode).lower()],
    )


def _parse_time(name: str, value: Any) -> float:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{name} is not an ISO 8601 time: {value!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parse_seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"poke_interval must be a number of seconds above 0, not {value!r}")
    return number


# ---------------------------------------------------------------- the forms of an export


def _records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The task records with their line numbers."""
    text = text.removeprefix("\ufeff")
    first = text.lstrip()[:1]
    if not first:
        raise InvalidInput.at("", "the export is empty")
    return _json(text) if first in "[{" else _csv(text)


def _csv(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(StringIO(text), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in _NEEDED if not set(_NAMES[name]) & set(header)]
        if missing:
            raise InvalidInput.at(
                "/line/1", f"the header lacks {', '.join(missing)}; it has {', '.join(header)}"
            )
        reader.fieldnames = header
        for record in reader:
            if None in record:
                raise InvalidInput.at(f"/line/{reader.line_num}", "the line has more fields than the header")
            yield reader.line_num, record
    except csv.Error as error:
        raise InvalidInput.at(f"/line/{reader.reader.line_num}", f"invalid CSV: {error}") from None


def _json(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of an array, of a response of Airflow's API, or of JSON Lines."""
    decoder = json.JSONDecoder()
    in_array = text.find("[") + 1 if _has_array(text) else 0
    at, end = in_array, len(text)
    line = 1 + text.count("\n", 0, at)
    while True:
        start = at
        while at < end and (text[at].isspace() or text[at] == ","):
            at += 1
        if at >= end or (in_array and text[at] == "]"):
            return
        line += text.count("\n", start, at)
        start = at
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InvalidInput.at(f"/line/{error.lineno}", f"invalid JSON: {error.msg}") from None
        if not isinstance(value, dict):
            raise InvalidInput.at(f"/line/{line}", "must be an object with the fields of a task")
        yield line, value
        line += text.count("\n", start, at)


def _has_array(text: str) -> bool:
    """Whether the tasks are in an array: the text is one, or it is a response of Airflow's API."""
    text = text.lstrip()
    return text.startswith("[") or text[1:].lstrip().startswith('"task_instances"')
