"""What sensors of Airflow did, from an export of its task history, and what the same waiting would have cost in each mode.

An export is CSV with a header, a JSON array, JSON Lines, or what Airflow's API answers (`{"task_instances": […]}`). Columns: `dag_id`,
`task_id`, `operator`, `start` and `end` (ISO 8601; UTC where no offset is given), and, where they are known, `poke_interval` in seconds and
`mode`. Airflow's own `start_date`, `end_date`, `operator_name` are taken, too.
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
#: How many mistakes are told of.
_MISTAKES = 20
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
    """One sensor that waited. Times are Unix seconds; `mode` is None where the export does not tell."""

    dag_id: str
    task_id: str
    operator: str
    start: float
    end: float
    poke_interval: float
    mode: CostMode | None

    @property
    def kind(self) -> str:
        """The kind of wait that comes nearest to it; what is no HTTP or S3 sensor is counted as one that does nothing."""
        name = self.operator.rpartition(".")[2].lower()
        if name.startswith("s3keysunchanged"):
            return "s3_keys_unchanged"
        if name.startswith("s3key"):
            return "s3_key"
        return "http" if name.startswith("http") else "other"

    def waiting(self, poke_cpu_seconds: Mapping[str, float], wait_bytes: float) -> WaitingTotals:
        """The same wait in waitd, with a callback that resumes the task; its pokes follow from duration and interval.

        `poke_cpu_seconds` (by kind) and `wait_bytes`: what a poke and a wait take there.
        """
        seconds = self.end - self.start
        pokes = 1 + int(seconds / self.poke_interval)
        each = poke_cpu_seconds.get(self.kind, poke_cpu_seconds[DEFAULT_KIND])
        measured = MeasuredUsage(pokes * each, seconds * wait_bytes)
        return WaitingTotals(self.kind, 1, seconds, pokes, 1, 1, measured)


class TaskHistory(NamedTuple):
    """The sensors of an export, and how many of its lines were other tasks or had not ended."""

    runs: Sequence[SensorRun]
    others: int
    unfinished: int


def parse_task_history(text: str, *, poke_interval: float = DEFAULT_POKE_INTERVAL) -> TaskHistory:
    """The sensors in an export; `poke_interval` stands in where a line has none.

    Raises:
        InvalidInput: what is wrong with it; the pointers are lines, `/line/17`.
    """
    return build_task_history(_records(text), poke_interval=poke_interval)


def build_task_history(
    records: Iterable[tuple[int, Mapping[str, Any]]], *, poke_interval: float = DEFAULT_POKE_INTERVAL
) -> TaskHistory:
    """The sensors among tasks, each with the line that it stands in. Raises InvalidInput, as `read`."""
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
                if len(problems) == _MISTAKES:
                    break
    if problems:
        raise InvalidInput(problems)
    return TaskHistory(runs, others, unfinished)


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of these fields that holds something."""
    return next((record[name] for name in names if record.get(name) not in {None, ""}), None)


def _is_sensor(fields: Mapping[str, Any]) -> bool:
    named = "sensor" in str(fields["operator"] or "").lower()
    return (
        named
        or fields["operator"] is None
        or fields["poke_interval"] is not None
        or fields["mode"] is not None
    )


def _run(fields: Mapping[str, Any], poke_interval: float) -> SensorRun:
    for name in _NEEDED:
        if fields[name] is None:
            raise ValueError(f"{name} is missing")
    start, end = _moment("start", fields["start"]), _moment("end", fields["end"])
    if end < start:
        raise ValueError("end lies before start")
    given = fields["poke_interval"]
    interval = poke_interval if given is None else _number(given)
    mode = fields["mode"]
    if mode is not None and str(mode).lower() not in _MODES:
        raise ValueError(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
    return SensorRun(
        str(fields["dag_id"]),
        str(fields["task_id"]),
        str(fields["operator"]),
        start,
        end,
        interval,
        None if mode is None else _MODES[str(mode).lower()],
    )


def _moment(name: str, value: Any) -> float:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{name} is no ISO 8601 time: {value!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"poke_interval is a number of seconds above 0, not {value!r}")
    return number


# ---------------------------------------------------------------- the forms of an export


def _records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each task with its line."""
    text = text.removeprefix("\ufeff")
    begin = text.lstrip()[:1]
    if not begin:
        raise InvalidInput.at("", "there is nothing in it")
    return _json(text) if begin in "[{" else _csv(text)


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
                raise InvalidInput.at(f"/line/{reader.line_num}", "there are more fields than in the header")
            yield reader.line_num, record
    except csv.Error as error:
        raise InvalidInput.at(f"/line/{reader.reader.line_num}", f"is no CSV: {error}") from None


def _json(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Tasks one after the other, whatever stands around them: an array, Airflow's answer, or nothing."""
    decoder = json.JSONDecoder()
    lines = _Lines(text)
    at, end = 0, len(text)
    head = text.find("[") + 1 if _wraps(text) else 0
    at = head
    while True:
        while at < end and (text[at].isspace() or text[at] == ","):
            at += 1
        if at >= end or (head and text[at] == "]"):
            return
        line = lines.of(at)
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InvalidInput.at(f"/line/{error.lineno}", f"is no JSON: {error.msg}") from None
        if not isinstance(value, dict):
            raise InvalidInput.at(f"/line/{line}", "is no object with the fields of a task")
        yield line, value


def _wraps(text: str) -> bool:
    """Whether tasks stand in an array: the text is one, or it is Airflow's answer."""
    text = text.lstrip()
    return text.startswith("[") or text[1:].lstrip().startswith('"task_instances"')


class _Lines:
    """The lines of a text, by ascending positions."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at, self._line = 0, 1

    def of(self, at: int) -> int:
        """The line that holds this position, counted from 1."""
        self._line += self._text.count("\n", self._at, at)
        self._at = at
        return self._line
