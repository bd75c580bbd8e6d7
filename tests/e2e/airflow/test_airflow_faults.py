"""What goes wrong around a parked task: waitd dies, the scheduler stops, a token expires, somebody clears the task."""

import asyncio
import base64
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from airflow_proxy import Proxy, answered, proxied
from airflow_runs import Run, Waits, sink
from daemon import Daemon, Jobs, daemon, serving, until
from joserfc import jwt
from joserfc.jwk import OctKey

from waitd.bench.airflow.instance import JWT_SECRET, Airflow

pytestmark = [pytest.mark.slow, pytest.mark.airflow_long]


async def _held_off(waits: Waits, wait_id: str) -> bool:
    found = await waits.deliveries(wait_id)
    return bool(found) and str(found[0]["last_error"]).startswith("held off")


async def test_a_killed_waitd_resumes_after_its_restart(airflow: Airflow, waits: Waits) -> None:
    run = Run(airflow, "plain_resume")
    instance = await run.parked()
    wait_id = await waits.submit(sink("resume", instance))
    await until(lambda: _held_off(waits, wait_id))
    await waits.waitd.kill()
    assert (await run.task())["state"] == "awaiting_input"
    await waits.waitd.start()
    await waits.delivered(wait_id)
    after = await run.ended()
    assert (after["state"], after["try_number"]) == ("success", 1)
    assert (await run.xcom())["params_input"]["event_id"] == wait_id


async def test_a_stopped_scheduler_goes_on_with_what_was_resumed_meanwhile(
    airflow: Airflow, waits: Waits
) -> None:
    resumed, set_state = Run(airflow, "plain_resume"), Run(airflow, "plain_deferred")
    instances = [await resumed.parked(), await set_state.parked()]
    airflow.stop_process("scheduler")
    try:
        wait_ids = [
            await waits.submit(sink(mode, instance))
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


async def test_an_airflow_that_is_down_is_told_when_it_is_back(airflow: Airflow, waits: Waits) -> None:
    run = Run(airflow, "plain_deferred")
    instance = await run.parked()
    airflow.stop_process("api-server")
    try:
        wait_id = await waits.submit(sink("set_state", instance))

        async def refused() -> bool:
            found = await waits.deliveries(wait_id)
            return bool(found) and found[0]["attempts"] > 0

        await until(refused)
        assert (await waits.deliveries(wait_id))[0]["state"] == "queued"
    finally:
        await asyncio.to_thread(airflow.start_process, "api-server")
    await waits.delivered(wait_id, seconds=180)
    assert (await run.task())["state"] == "success"


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_a_task_that_was_cleared_meanwhile_is_left_alone(
    airflow: Airflow, waits: Waits, mode: str
) -> None:
    run = Run(airflow, "plain_resume" if mode == "resume" else "plain_deferred")
    first = await run.parked()
    wait_id = await waits.submit(sink(mode, first), seconds=3600)
    await run.clear()

    async def parked_again() -> bool:
        instance = await run.task()
        return bool(instance["id"] != first["id"] and instance["state"] == first["state"])

    await until(parked_again, seconds=180)
    second = await run.task()
    assert second["try_number"] == 2
    late = await waits.submit(sink(mode, first))  # the outcome of the older try's wait
    delivery = await waits.settled(late)
    assert delivery["state"] == "dead"
    assert delivery["last_error"].startswith("superseded")
    assert await run.task() == second
    assert await waits.deliveries(wait_id) == []
    await waits.delivered(await waits.submit(sink(mode, second)))
    assert (await run.ended())["state"] == "success"


def connection_to(url: str) -> dict[str, str]:
    connection = {"conn_type": "airflow", "host": url, "login": "waitd", "password": "waitd-pw"}
    return {"AIRFLOW_CONN_AIRFLOW": orjson.dumps(connection).decode()}


class OldTokens(Proxy):
    """Hands out an expired token at the first login."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.logins = 0
        self.answers: list[tuple[int, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        status, body = await self.passed_on(request)
        if request.path.endswith("/auth/token"):
            self.logins += 1
            if self.logins == 1:
                body = orjson.dumps({"access_token": _expired(orjson.loads(body)["access_token"])})
        else:
            self.answers.append((status, body.decode()))
        return answered(status, body)


def _expired(token: str) -> str:
    """The same token, as it is an hour after its end. It says that it was issued lately: whoever has it does not know better."""
    header, claims = (orjson.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    life = claims["exp"] - claims["iat"]
    claims |= {"exp": claims["iat"] - 3600, "nbf": claims["iat"] - 3600 - life}
    return jwt.encode(header, claims, OctKey.import_key(JWT_SECRET), algorithms=["HS512"])


async def test_an_expired_token_is_replaced(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = Run(airflow, "plain_deferred")
    instance = await run.parked()
    async with (
        proxied(OldTokens, airflow) as (proxy, url),
        daemon(tmp_path, **(daemon_settings | connection_to(url))) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        waits = Waits(waitd, client, jobs_url)
        await waits.delivered(await waits.submit(sink("set_state", instance)))
    assert proxy.answers[0] == (401, '{"detail":"Token Expired"}')
    assert [status for status, _ in proxy.answers[1:]] == [200, 201, 201, 200]
    assert proxy.logins == 2
    assert (await run.task())["state"] == "success"


class CutClears(Proxy):
    """Cuts off whoever clears a task: by the task's run it is told how."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.how: dict[str, str] = {}
        self.clears: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        if not request.path.endswith("/clearTaskInstances"):
            return await super().answer(request)
        asked = orjson.loads(await request.read())
        run_id = asked["dag_run_id"]
        self.clears[run_id] += 1
        how = self.how.pop(run_id, None)
        if how == "never passed on":
            return web.Response(status=504)
        # As Airflow's audit log has it before Airflow acts: passed on, and nothing comes of it.
        asked |= {"only_failed": True} if how == "without effect" else {}
        status, body = await self.passed_on(request, orjson.dumps(asked))
        if how is None:
            return answered(status, body)
        assert status == 200, body
        assert request.transport is not None
        request.transport.close()
        return web.Response()


async def test_a_clear_of_which_nothing_is_heard_is_sent_again_only_if_airflow_never_saw_it(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    hows = ("never passed on", "answer lost", "without effect")
    runs = [Run(airflow, "plain_deferred") for _ in hows]
    instances = [await run.parked() for run in runs]
    async with (
        proxied(CutClears, airflow) as (proxy, url),
        daemon(tmp_path, **(daemon_settings | connection_to(url))) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        proxy.how = {run.run_id: how for run, how in zip(runs, hows, strict=True)}
        waits = Waits(waitd, client, jobs_url)
        wait_ids = [await waits.submit(sink("clear", instance)) for instance in instances]
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


async def test_a_user_without_the_role_is_told_which(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = dict(daemon_settings)
    for name in ("viewer", "user"):
        connection = {"conn_type": "airflow", "host": airflow.url, "login": name, "password": f"{name}-pw"}
        settings[f"AIRFLOW_CONN_{name.upper()}"] = orjson.dumps(connection).decode()
    run = Run(airflow, "plain_deferred")
    instance = await run.parked()
    async with (
        daemon(tmp_path, **settings) as waitd,
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        waits = Waits(waitd, client, jobs_url)
        asset = {"kind": "airflow", "mode": "asset_event", "asset_uri": "s3://landing/plain"}
        errors = []
        for way in (sink("set_state", instance, conn_id="viewer"), asset | {"conn_id": "user"}):
            delivery = await waits.settled(await waits.submit(way))
            errors.append((delivery["state"], delivery["last_error"].rpartition(" ")[2]))
        assert errors == [("dead", "User"), ("dead", "Op")]
        await waits.delivered(await waits.submit(sink("set_state", instance, conn_id="user")))


async def test_a_hundred_resumes_and_none_too_early(
    airflow: Airflow, daemon_settings: dict[str, Any], tmp_path: Path
) -> None:
    """With Airflow's own heartbeat of 5 s and waitd's own hold-off: where a task is resumed too early, Airflow fails it or burns a retry."""
    airflow.stop_process("scheduler")
    airflow.start_process("scheduler", AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="5")
    settings = {name: value for name, value in daemon_settings.items() if name != "WAITD_AIRFLOW_HOLD_OFF"}
    try:
        async with serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url:
            settings["AIRFLOW_CONN_JOBS"] = jobs_url
            async with daemon(tmp_path, **settings) as waitd:
                _point_airflow(airflow, waitd)
                run = Run(airflow, "hundred")
                instances = await _all_ended(run)
    finally:
        airflow.stop_process("scheduler")
        airflow.start_process("scheduler")
    assert [(each["state"], each["try_number"]) for each in instances] == [("success", 1)] * 100
    for index in itertools.chain(range(3), range(97, 100)):
        assert await run.xcom(map_index=index) == {"index": index}
    log = (airflow.home / "scheduler.log").read_text()
    assert "but the task instance's state attribute is" not in log


def _point_airflow(airflow: Airflow, waitd: Daemon) -> None:
    host, _, port = waitd.url.removeprefix("http://").partition(":")
    airflow.request("DELETE", "/api/v2/connections/waitd_default")
    extra = '{"airflow_conn_id": "airflow"}'
    body = {
        "connection_id": "waitd_default",
        "conn_type": "waitd",
        "host": host,
        "port": int(port),
        "extra": extra,
    }
    status, answer = airflow.request("POST", "/api/v2/connections", body)
    assert status == 201, answer


async def _all_ended(run: Run) -> list[dict[str, Any]]:
    async def over() -> bool:
        return await run.state() in {"success", "failed"}

    await until(over, seconds=1500)
    answer = await run.ask("GET", "/taskInstances?limit=200")
    found: list[dict[str, Any]] = answer["task_instances"]
    return found
