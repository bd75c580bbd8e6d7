"""Faults while a task is parked: kills, restarts, expired tokens and clears."""

import asyncio
import base64
import itertools
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from airflow_proxy import AirflowProxy, json_response, proxied
from airflow_runs import DagRun, WaitClient, airflow_sink
from daemon import Daemon, Jobs, daemon, serving, until
from joserfc import jwt
from joserfc.jwk import OctKey
from provider_scene import connect_airflow

from waitd.bench.airflow.instance import JWT_SECRET, Airflow

pytestmark = [pytest.mark.slow, pytest.mark.long]


async def _is_held_off(waits: WaitClient, wait_id: str) -> bool:
    deliveries = await waits.deliveries(wait_id)
    return bool(deliveries) and str(deliveries[0]["last_error"]).startswith("held off")


async def test_a_killed_waitd_resumes_the_task_after_its_restart(airflow: Airflow, waits: WaitClient) -> None:
    run = DagRun(airflow, "plain_resume")
    instance = await run.parked()
    wait_id = await waits.submit(airflow_sink("resume", instance, min_heartbeat_interval=25))
    await until(lambda: _is_held_off(waits, wait_id))
    await waits.waitd.kill()
    assert (await run.task())["state"] == "awaiting_input"
    await waits.waitd.start()
    await waits.delivered(wait_id)
    after = await run.ended()
    assert (after["state"], after["try_number"]) == ("success", 1)
    assert (await run.xcom())["params_input"]["event_id"] == wait_id


async def test_a_restarted_scheduler_runs_tasks_that_were_resumed_meanwhile(
    airflow: Airflow, waits: WaitClient
) -> None:
    resumed, set_state = DagRun(airflow, "plain_resume"), DagRun(airflow, "plain_deferred")
    instances = [await resumed.parked(), await set_state.parked()]
    airflow.stop_process("scheduler")
    try:
        wait_ids = [
            await waits.submit(airflow_sink(mode, instance))
            for mode, instance in zip(("resume", "set_state"), instances, strict=True)
        ]
        for wait_id in wait_ids:
            await waits.delivered(wait_id)
        assert (await resumed.task())["state"] == "scheduled"
        assert (await set_state.task())["state"] == "success"
    finally:
        airflow.start_process("scheduler")
    after = await resumed.ended(seconds=180)
    assert (after["state"], after["try_number"]) == ("success", 1)
    assert (await set_state.ended("process", seconds=180))["state"] == "success"


async def test_the_outcome_is_delivered_when_airflow_is_up_again(airflow: Airflow, waits: WaitClient) -> None:
    run = DagRun(airflow, "plain_deferred")
    instance = await run.parked()
    airflow.stop_process("api-server")
    try:
        wait_id = await waits.submit(airflow_sink("set_state", instance))

        async def was_attempted() -> bool:
            deliveries = await waits.deliveries(wait_id)
            return bool(deliveries) and deliveries[0]["attempts"] > 0

        await until(was_attempted)
        assert (await waits.deliveries(wait_id))[0]["state"] == "queued"
    finally:
        await asyncio.to_thread(airflow.start_process, "api-server")
    await waits.delivered(wait_id, seconds=180)
    assert (await run.task())["state"] == "success"


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_a_task_that_was_cleared_meanwhile_is_not_touched(
    airflow: Airflow, waits: WaitClient, mode: str
) -> None:
    run = DagRun(airflow, "plain_resume" if mode == "resume" else "plain_deferred")
    first = await run.parked()
    wait_id = await waits.submit(airflow_sink(mode, first), seconds=3600)
    await run.clear()

    async def is_parked_again() -> bool:
        instance = await run.task()
        return bool(instance["id"] != first["id"] and instance["state"] == first["state"])

    await until(is_parked_again, seconds=180)
    second = await run.task()
    assert second["try_number"] == 2
    late = await waits.submit(airflow_sink(mode, first))  # the outcome of the older try's wait
    delivery = await waits.settled(late)
    assert delivery["state"] == "dead"
    assert delivery["last_error"].startswith("superseded")
    assert await run.task() == second
    assert await waits.deliveries(wait_id) == []
    await waits.delivered(await waits.submit(airflow_sink(mode, second)))
    assert (await run.ended())["state"] == "success"


def connection_to(url: str) -> dict[str, str]:
    connection = {"conn_type": "airflow", "host": url, "login": "waitd", "password": "waitd-pw"}
    return {"AIRFLOW_CONN_AIRFLOW": orjson.dumps(connection).decode()}


class ExpiredTokenProxy(AirflowProxy):
    """Returns an expired token at the first login."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.logins = 0
        self.answers: list[tuple[int, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        status, body = await self.forward(request)
        if request.path.endswith("/auth/token"):
            self.logins += 1
            if self.logins == 1:
                body = orjson.dumps({"access_token": _expire(orjson.loads(body)["access_token"])})
        else:
            self.answers.append((status, body.decode()))
        return json_response(status, body)


def _expire(token: str) -> str:
    """The same token, expired for an hour.

    Its `iat` is unchanged, so waitd cannot know that it is old.
    """
    header, claims = (orjson.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    lifetime = claims["exp"] - claims["iat"]
    claims |= {"exp": claims["iat"] - 3600, "nbf": claims["iat"] - 3600 - lifetime}
    return jwt.encode(header, claims, OctKey.import_key(JWT_SECRET), algorithms=["HS512"])


async def test_an_expired_token_is_replaced(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = DagRun(airflow, "plain_deferred")
    instance = await run.parked()
    async with (
        proxied(ExpiredTokenProxy, airflow) as (proxy, url),
        daemon(tmp_path, **(daemon_settings | connection_to(url))) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        waits = WaitClient(waitd, client, jobs_url)
        await waits.delivered(await waits.submit(airflow_sink("set_state", instance)))
    assert proxy.answers[0] == (401, '{"detail":"Token Expired"}')
    assert [status for status, _ in proxy.answers[1:]] == [200, 201, 201, 200]
    assert proxy.logins == 2
    assert (await run.task())["state"] == "success"


class ClearFaultProxy(AirflowProxy):
    """Breaks requests to clear a task. `faults` has the kind of fault for each DAG run."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.faults: dict[str, str] = {}
        self.clears: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        if not request.path.endswith("/clearTaskInstances"):
            return await super().handle(request)
        body = orjson.loads(await request.read())
        run_id = body["dag_run_id"]
        self.clears[run_id] += 1
        fault = self.faults.pop(run_id, None)
        if fault == "not forwarded":
            return web.Response(status=504)
        # The clear is in Airflow's audit log but has no effect.
        body |= {"only_failed": True} if fault == "without effect" else {}
        status, answer = await self.forward(request, orjson.dumps(body))
        if fault is None:
            return json_response(status, answer)
        assert status == 200, answer
        assert request.transport is not None
        request.transport.close()
        return web.Response()


async def test_an_unanswered_clear_is_repeated_only_if_airflow_did_not_receive_it(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    faults = ("not forwarded", "answer lost", "without effect")
    runs = [DagRun(airflow, "plain_deferred") for _ in faults]
    instances = [await run.parked() for run in runs]
    async with (
        proxied(ClearFaultProxy, airflow) as (proxy, url),
        daemon(tmp_path, **(daemon_settings | connection_to(url))) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        proxy.faults = {run.run_id: fault for run, fault in zip(runs, faults, strict=True)}
        waits = WaitClient(waitd, client, jobs_url)
        wait_ids = [await waits.submit(airflow_sink("clear", instance)) for instance in instances]
        settled = await asyncio.gather(*(waits.settled(wait_id, 120) for wait_id in wait_ids))
        assert [delivery["state"] for delivery in settled] == ["delivered", "delivered", "dead"]
        assert [proxy.clears[run.run_id] for run in runs] == [2, 1, 1]
        assert "audit log has it;" in settled[2]["last_error"]
        for run in runs[:2]:
            after = await run.ended()
            assert (after["state"], after["try_number"]) == ("success", 2)
        assert (await runs[2].task()) == instances[2]
        await waits.redeliver(wait_ids[2])
        await waits.delivered(wait_ids[2])
        after = await runs[2].ended()
        assert (after["state"], after["try_number"], proxy.clears[runs[2].run_id]) == ("success", 2, 2)
        assert (await runs[2].xcom())["stored_by_try"] == 1


async def test_a_missing_role_is_named_in_the_error(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = dict(daemon_settings)
    for name in ("viewer", "user"):
        connection = {"conn_type": "airflow", "host": airflow.url, "login": name, "password": f"{name}-pw"}
        settings[f"AIRFLOW_CONN_{name.upper()}"] = orjson.dumps(connection).decode()
    run = DagRun(airflow, "plain_deferred")
    instance = await run.parked()
    async with (
        daemon(tmp_path, **settings) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        waits = WaitClient(waitd, client, jobs_url)
        asset = {"kind": "airflow", "mode": "asset_event", "asset_uri": "s3://landing/plain"}
        errors = []
        for sink in (airflow_sink("set_state", instance, conn_id="viewer"), asset | {"conn_id": "user"}):
            delivery = await waits.settled(await waits.submit(sink))
            errors.append((delivery["state"], delivery["last_error"].rpartition(" ")[2]))
        assert errors == [("dead", "User"), ("dead", "Op")]
        await waits.delivered(await waits.submit(airflow_sink("set_state", instance, conn_id="user")))


async def test_a_hundred_tasks_are_resumed_and_none_too_early(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Uses the default heartbeat (5 s), with which a task is held off for 10 s after it parked.

    Airflow fails or retries a task that is resumed too early. One that was parked for longer is
    resumed by the first attempt.
    """
    airflow.stop_process("scheduler")
    airflow.start_process("scheduler", AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="5")
    try:
        async with serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url:
            settings = daemon_settings | {"AIRFLOW_CONN_JOBS": jobs_url}
            async with (
                daemon(tmp_path, **settings) as waitd,
                aiohttp.ClientSession() as client,
            ):
                await connect_airflow(airflow, waitd.url)
                run = DagRun(airflow, "hundred")
                instances = await _all_ended(run)
                waits = await _waits_of(client, waitd, run)
                postponed = {
                    line["wait_id"]
                    for line in waitd.log
                    if line.get("event") == "delivery_attempt" and line["result"] == "postponed"
                }
    finally:
        airflow.stop_process("scheduler")
        airflow.start_process("scheduler")
    assert [(task["state"], task["try_number"]) for task in instances] == [("success", 1)] * 100
    for index in itertools.chain(range(3), range(97, 100)):
        assert await run.xcom(map_index=index) == {"index": index}
    long = {wait["id"] for wait in waits if _seconds_of(wait) >= 30}
    assert long
    assert not long & postponed
    log = (airflow.home / "scheduler.log").read_text()
    assert "but the task instance's state attribute is" not in log


async def _waits_of(client: aiohttp.ClientSession, waitd: Daemon, run: DagRun) -> list[dict[str, Any]]:
    query = {"label.run_id": run.run_id, "limit": "200"}
    async with client.get(f"{waitd.url}/v1/waits", params=query) as answer:
        waits: list[dict[str, Any]] = (await answer.json())["waits"]
    return waits


def _seconds_of(wait: dict[str, Any]) -> float:
    """How long it took from the submit to the outcome."""
    ends = [datetime.fromisoformat(wait[name]) for name in ("created_at", "finished_at")]
    return (ends[1] - ends[0]).total_seconds()


async def _all_ended(run: DagRun) -> list[dict[str, Any]]:
    async def has_ended() -> bool:
        return await run.state() in {"success", "failed"}

    await until(has_ended, seconds=1500)
    answer = await run.ask("GET", "/taskInstances?limit=200")
    instances: list[dict[str, Any]] = answer["task_instances"]
    return instances
