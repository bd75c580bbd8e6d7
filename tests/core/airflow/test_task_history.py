"""Exports of Airflow's task history: their forms, the sensor runs in them, and their errors."""

import json
from datetime import UTC, datetime

import pytest

from waitd.core.airflow.task_history import SensorRun, parse_task_history
from waitd.core.costs.model import CostMode
from waitd.core.errors import InvalidInput

START = datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp()
HEADER = "dag_id,task_id,operator,start,end,poke_interval,mode\n"
LINE = "etl,wait,HttpSensor,2026-11-01T06:00:00+00:00,2026-11-01T07:00:00Z,30,reschedule\n"
RUN = SensorRun("etl", "wait", "HttpSensor", START, START + 3600, 30.0, CostMode.RESCHEDULE)
RECORD = {
    "dag_id": "etl", "task_id": "wait", "operator": "HttpSensor", "start": "2026-11-01T06:00:00Z",
    "end": "2026-11-01T07:00:00Z", "poke_interval": 30, "mode": "reschedule",
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        HEADER + LINE,
        "\ufeff" + HEADER + LINE,
        json.dumps([RECORD]),
        json.dumps([RECORD], indent=2),
        json.dumps(RECORD) + "\n",
        json.dumps({"task_instances": [RECORD], "total_entries": 1}, indent=1),
    ],
)
def test_every_form_of_an_export_gives_the_same_run(text: str) -> None:
    assert list(parse_task_history(text).runs) == [RUN]


def test_airflows_names_are_accepted_and_missing_values_have_defaults() -> None:
    text = "dag_id,task_id,operator_name,start_date,end_date\netl,wait,HttpSensor,2026-11-01T06:00:00,2026-11-01T08:00:00+01:00\n"
    (run,) = parse_task_history(text, poke_interval=45.0).runs
    assert run == RUN._replace(poke_interval=45.0, mode=None)


def test_other_tasks_and_unfinished_sensors_are_counted() -> None:
    text = (
        HEADER
        + LINE
        + "etl,load,PythonOperator,2026-11-01,2026-11-02,,\n" * 2
        + "etl,w,S3KeySensor,2026-11-01,,,\n" * 3
    )
    history = parse_task_history(text)
    assert (list(history.runs), history.others, history.unfinished) == ([RUN], 2, 3)


@pytest.mark.parametrize("fields", ["30,", ",poke"])
def test_a_task_with_a_poke_interval_or_mode_is_a_sensor(fields: str) -> None:
    text = f"{HEADER}etl,wait,@task.wait,2026-11-01T06:00:00Z,2026-11-01T06:00:00Z,{fields}\n"
    (run,) = parse_task_history(text).runs
    assert (run.start, run.end) == (START, START)


def test_a_kind_without_a_cost_has_the_default_cost() -> None:
    (run,) = parse_task_history(HEADER + LINE).runs
    assert run.waiting({"default": 0.5}, 100.0) == run.waiting({"default": 9.0, run.kind: 0.5}, 100.0)
    assert run.waiting({"default": 0.5}, 100.0).kind == run.kind == "http"


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("HttpSensor", "http"),
        ("airflow.providers.http.sensors.http.HttpSensor", "http"),
        ("S3KeySensor", "s3_key"),
        ("S3KeysUnchangedSensor", "s3_keys_unchanged"),
        ("SqlSensor", "other"),
    ],
)
def test_a_sensor_counts_as_the_most_similar_kind(operator: str, kind: str) -> None:
    assert RUN._replace(operator=operator).kind == kind


def test_pokes_follow_from_duration_and_interval() -> None:
    waiting = RUN.waiting({"default": 1.0, "http": 0.001}, 1200.0)
    assert (waiting.waits, waiting.seconds, waiting.pokes) == (1, 3600.0, 121)
    assert waiting.measured.cpu_seconds == pytest.approx(0.121)
    assert waiting.measured.byte_seconds == 3600 * 1200.0
    assert (waiting.parked, waiting.resumed) == (1, 1)


@pytest.mark.parametrize(
    ("text", "pointer", "detail"),
    [
        ("", "", "export is empty"),
        ("dag_id,operator\n", "/line/1", "lacks task_id, start, end"),
        (
            HEADER + LINE + LINE.replace(",2026-11-01T07", ",yesterday"),
            "/line/3",
            "end is not an ISO 8601 time",
        ),
        (HEADER + LINE.replace("07:00", "05:00"), "/line/2", "end is before start"),
        (HEADER + LINE.replace(",30,", ",0,"), "/line/2", "above 0"),
        (HEADER + LINE.replace(",30,", ",inf,"), "/line/2", "above 0"),
        (HEADER + LINE.replace("reschedule", "magic"), "/line/2", "mode must be one of poke"),
        (HEADER + LINE.replace("etl,", ","), "/line/2", "dag_id is missing"),
        (HEADER + LINE.strip() + ",more\n", "/line/2", "more fields"),
        (HEADER + '"etl\n', "/line/2", "invalid CSV"),
        ('[\n{"dag_id": "a"},\n{"dag_id" "b"}]', "/line/3", "invalid JSON"),
        ("[\n 17\n]", "/line/2", "must be an object"),
        (json.dumps([RECORD, {**RECORD, "end": "x"}], indent=0), "/line/11", "end is not"),
        (
            json.dumps(RECORD) + "\n" + json.dumps({**RECORD, "task_id": None}),
            "/line/2",
            "task_id is missing",
        ),
    ],
)
def test_a_problem_points_at_its_line(text: str, pointer: str, detail: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_task_history(text)
    assert raised.value.problems[0].pointer == pointer
    assert detail in raised.value.problems[0].detail


def test_the_number_of_reported_problems_is_limited() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_task_history(HEADER + LINE.replace("07:00", "05:00") * 1000)
    assert len(raised.value.problems) == 20
