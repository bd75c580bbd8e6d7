from datetime import UTC, datetime, timedelta, timezone

from waitd.airflow.registration import MAX_KEY_LENGTH, RegisteringTask, build_registration, build_wait
from waitd.core.airflow.registration import parse_registration, render_registration
from waitd.models import Registration, SinkRequest, parse_model, parse_wait
from waitd.sinks.airflow.params import parse_airflow_target

TASK = RegisteringTask("etl", "scheduled__2026-11-21", "wait", -1, "01a1fee1-dcb8-71ab-adca-72e0e7a91ad7", 2)
TIMING = {"poke_interval": 60.0, "timeout": 3600.0, "soft_fail": False}


def build_body(task: RegisteringTask) -> dict[str, object]:
    params = {"endpoint": "/jobs/`42`"}
    return build_wait(
        task,
        kind="http",
        params=params,
        timing=TIMING,
        mode="resume",
        airflow_conn_id="airflow",
        min_heartbeat_interval=3.0,
        labels={"team": "x"},
    )


def test_waitd_accepts_the_body() -> None:
    request = parse_wait(build_body(TASK))
    assert request.labels == {
        "team": "x", "dag_id": "etl", "run_id": "scheduled__2026-11-21", "task_id": "wait", "map_index": "-1", "try_number": "2",
    }  # fmt: skip
    [sink] = request.sinks
    assert isinstance(sink, SinkRequest)
    target = parse_airflow_target(sink.model_extra or {})
    assert (target.recipient, target.min_heartbeat_interval) == (TASK, 3.0)


def test_all_tries_share_a_supersede_key_and_no_other_task_has_it() -> None:
    later = TASK._replace(ti_id="01a1fee1-dcb8-71ab-adca-72e0e7a91ad8", try_number=3)
    assert RegisteringTask(*later).supersede_key("airflow") == TASK.supersede_key("airflow")
    assert RegisteringTask(*later).idempotency_key != TASK.idempotency_key
    others = {
        TASK._replace(map_index=0),
        TASK._replace(task_id="other"),
        TASK._replace(run_id="r"),
        TASK._replace(dag_id="d"),
    }
    keys = {RegisteringTask(*other).supersede_key("airflow") for other in others} | {
        TASK.supersede_key("other")
    }
    assert len(keys | {TASK.supersede_key("airflow")}) == 6


def test_long_and_ambiguous_names_are_hashed_to_different_keys() -> None:
    long = RegisteringTask(*TASK._replace(run_id="r" * 250))
    slash, slashes = (
        RegisteringTask(*TASK._replace(dag_id="a/b", run_id="c")),
        RegisteringTask(*TASK._replace(dag_id="a", run_id="b/c")),
    )
    keys = [task.supersede_key("airflow") for task in (long, slash, slashes)]
    assert len(set(keys)) == 3
    assert all(len(key) <= MAX_KEY_LENGTH for key in keys)


def test_the_registration_left_in_airflow_is_parsed_again_with_its_deadline() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=2)))
    registration = build_registration(TASK, build_body(TASK), now)
    assert datetime.fromisoformat(registration.deadline) == datetime(2026, 11, 21, 11, tzinfo=UTC)
    text = render_registration(registration.model_dump(), "http://127.0.0.1:8795/v1/waits/x")
    assert parse_model(Registration, parse_registration(text)) == registration


def test_other_texts_contain_no_registration() -> None:
    assert parse_registration(None) is None
    assert parse_registration("Approve?") is None
    assert parse_registration("```json\n{\n```\n") is None
