"""Airflow's own HttpSensor and the kind `http` say the same of the same answer."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from daemon import serving
from fakes import FakeConnections
from sensor_pokes import last_verdict, sensors_say

from waitd.core.connections.connection import Connection
from waitd.probes.http.probe import HttpProbe

pytestmark = pytest.mark.slow

DONE = "response.json()['state'] == 'done'", "body.state == 'done'"
IS_500 = "response.status_code == 500", "status == 500"
UNCHECKED = {"check_response": False}


class Case(NamedTuple):
    """A path of the server, and what a poke of it says: the sensor's, and the verdict of waitd.

    `check` is the condition, in Python and in CEL.
    """

    path: str
    sensor: str
    verdict: str
    check: tuple[str, str] | None = None
    extra: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default is never changed
    why: str = ""


LATER = "an answer that says nothing about the job ends no wait"
CASES = [
    Case("200/done", "true", "success"),
    Case("200/done", "true", "success", DONE),
    Case("200/busy", "false", "pending", DONE),
    Case("204/", "true", "success"),
    Case("404/", "false", "pending"),
    Case("404/done", "false", "pending", DONE),
    Case("302/done", "true", "success", DONE),
    Case("403/", "error", "failure"),
    Case("422/done", "error", "failure", DONE),
    Case("429/", "error", "unreachable", why=LATER),
    Case("500/", "error", "unreachable", why=LATER),
    Case("500/", "error", "success", IS_500, why="a condition that names status is asked about any"),
    Case("slow/done", "error", "unreachable", DONE, {"timeout": 0.2}, why=LATER),
    Case("slow/done", "true", "success", DONE, {"timeout": 30}),
    Case("302/done", "true", "unreachable", None, {"allow_redirects": False}, why="no condition, and no 2xx"),
    Case("500/done", "true", "success", DONE, UNCHECKED),
    Case("500/", "true", "success", IS_500, UNCHECKED),
    Case("500/", "true", "success", None, UNCHECKED),
    Case("404/", "true", "success", None, UNCHECKED),
    Case("404/done", "true", "success", DONE, UNCHECKED),
    Case("404/busy", "false", "pending", DONE, UNCHECKED),
    Case("422/busy", "false", "unreachable", DONE, UNCHECKED, why="it continues, backed off"),
]


async def test_a_poke_says_what_airflows_sensor_says(environment: Path, tmp_path: Path) -> None:
    async with serving("GET", "/{status}/{state:.*}", respond) as url:
        pokes = [
            {"path": case.path, "extra": case.extra, "check": case.check and case.check[0]} for case in CASES
        ]
        said = await sensors_say(environment, "http_sensors.py", tmp_path, url, pokes)
        connections = [
            Connection(f"api_{number}", "http", host=url, extra=case.extra)
            for number, case in enumerate(CASES)
        ]
        async with HttpProbe(FakeConnections(*connections), secret_headers=()) as probe:
            seen = [await verdict_of(probe, number, case) for number, case in enumerate(CASES)]
    assert [*zip(CASES, said, seen, strict=True)] == [(case, case.sensor, case.verdict) for case in CASES]


async def respond(request: web.Request) -> web.Response:
    status, state = request.match_info["status"], request.match_info["state"]
    if status == "slow":
        await asyncio.sleep(2)
    if status == "302":
        raise web.HTTPFound("/200/done")
    return web.json_response({"state": state}, status=200 if status == "slow" else int(status))


async def verdict_of(probe: HttpProbe, number: int, case: Case) -> str:
    params: dict[str, Any] = {
        "http_conn_id": f"api_{number}",
        "endpoint": case.path,
        "request_timeout": 60,
        "success_when": case.check and case.check[1],
    }
    return await last_verdict(probe, params)
