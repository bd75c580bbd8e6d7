"""What a namespace and a caller may keep and submit: each limit, of a real daemon, once."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from cli_process import run_waitd
from daemon import Daemon, daemon, serving, until

pytestmark = pytest.mark.slow

TEAMS = ("a", "b", "c")


def key(name: str) -> str:
    return f"waitd_{name}_" + "k" * 43


LIMITS: Mapping[str, Mapping[str, Any]] = {
    "a": {
        "waits_held_per_namespace": 4,
        "ended_waits_per_namespace": 6,
        "signals_per_principal": 2,
        "redeliveries_per_namespace": 2,
    },
    "b": {"waits_per_second_per_principal": 0.02, "signal_bytes_per_namespace": 200},
    "c": {"ended_bytes_per_principal": 1, "page_bytes": 65_536},
}


def settings(directory: Path) -> dict[str, str]:
    keys = directory / "api-keys"
    keys.write_text("".join(f"{key(team)} operator {team}\n" for team in TEAMS) + f"{key('admin')} admin\n")
    return {
        "WAITD_API_KEYS_FILE": str(keys),
        "WAITD_NAMESPACES": orjson.dumps({team: {"limits": own} for team, own in LIMITS.items()}).decode(),
        "WAITD_DELIVERY_RETRY_DELAYS": "[0, 600]",
    }


class Caller:
    """Calls a daemon with the key of one team."""

    def __init__(self, session: aiohttp.ClientSession, running: Daemon, team: str) -> None:
        self._session = session
        self._running = running
        self._headers = {"Authorization": f"Bearer {key(team)}"}

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """The status and the body of an answer; a 429 must name its limit and say when to retry."""
        headers = self._headers | options.pop("headers", {})
        url = f"{self._running.url}{path}"
        async with self._session.request(method, url, headers=headers, **options) as answer:
            body = await answer.read()
            decoded = (
                [orjson.loads(line) for line in body.splitlines()] if ":batch" in path else orjson.loads(body)
            )
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) >= 1
            return answer.status, decoded

    async def refused_by(self, method: str, path: str, **options: Any) -> str:
        status, problem = await self.call(method, path, **options)
        assert status == 429, problem
        assert problem["limit"] in problem["detail"]
        return str(problem["limit"])

    async def limits(self) -> dict[str, Any]:
        _, view = await self.call("GET", "/v1/limits")
        return {item["limit"]: item for item in view["limits"]}


def signal_wait(**more: Any) -> dict[str, Any]:
    return {"kind": "signal", "params": {"key": "never"}, **more}


def lines(count: int, **more: Any) -> dict[str, Any]:
    body = b"".join(orjson.dumps(signal_wait(**more)) + b"\n" for _ in range(count))
    return {"data": body, "headers": {"Content-Type": "application/x-ndjson"}}


async def scrape(session: aiohttp.ClientSession, running: Daemon) -> str:
    headers = {"Authorization": f"Bearer {key('admin')}"}
    async with session.get(f"{running.url}/metrics", headers=headers) as answer:
        return await answer.text()


async def test_what_a_team_keeps_meets_its_limits_also_after_a_restart(tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with (
        aiohttp.ClientSession() as session,
        serving("POST", "/hook", refuse) as url,
        daemon(tmp_path / "state", **settings(tmp_path)) as running,
    ):
        team, other = Caller(session, running, "a"), Caller(session, running, "c")
        _, answers = await team.call("POST", "/v1/waits:batch", **lines(6))
        assert [answer["status"] for answer in answers] == [201] * 4 + [429] * 2
        assert answers[-1]["problem"]["limit"] == "waits_held_per_namespace"
        await running.kill()
        await running.start()
        assert await team.refused_by("POST", "/v1/waits", json=signal_wait()) == "waits_held_per_namespace"
        for answer in answers[:4]:
            await team.call("POST", f"/v1/waits/{answer['id']}:cancel")

        sinks = [{"kind": "webhook", "url": f"{url}/hook"}]
        _, wait = await team.call("POST", "/v1/waits", json=signal_wait(sinks=sinks, supersede_key="s"))
        await team.call("POST", f"/v1/waits/{wait['id']}:cancel")
        again = f"/v1/waits/{wait['id']}:redeliver"
        assert [(await team.call("POST", again))[0] for _ in range(2)] == [200, 200]
        assert await team.refused_by("POST", again) == "redeliveries_per_namespace"

        storm = [await team.call("POST", "/v1/waits", json=signal_wait(supersede_key="x")) for _ in range(3)]
        assert [status for status, _ in storm] == [201, 201, 429]
        assert storm[-1][1]["limit"] == "ended_waits_per_namespace"

        statuses = [(await team.call("POST", "/v1/signals/k", json=number))[0] for number in range(3)]
        assert statuses == [200, 200, 429]
        assert (await team.call("POST", "/v1/signals/k", json=1))[0] == 200  # is kept already
        assert (await other.call("POST", "/v1/signals/k", json=9))[0] == 200

        limits = await team.limits()
        assert limits["waits_held"]["namespace"] == {"used": 1, "most": 4}
        assert limits["ended_waits"]["principal"]["used"] == 6
        assert limits["signals"]["principal"] == {"used": 2, "most": 2}
        assert limits["redeliveries"]["namespace"] == {"used": 2, "most": 2}
        assert (await other.limits())["signals"]["namespace"]["used"] == 1
        shown = await asyncio.to_thread(run_waitd, "limits", WAITD_API_KEY=key("a"), WAITD_URL=running.url)
        assert ["waits_held", "1", "4", "1"] in [line.split()[:4] for line in shown.stdout.splitlines()]
        metrics = await scrape(session, running)
        assert 'waitd_limits_exceeded_total{limit="ended_waits_per_namespace",namespace="a"} 1.0' in metrics


async def test_rates_and_bytes_meet_their_limits(tmp_path: Path) -> None:
    async with (
        aiohttp.ClientSession() as session,
        daemon(tmp_path / "state", **settings(tmp_path)) as running,
    ):
        team, other = Caller(session, running, "b"), Caller(session, running, "c")
        _, answers = await team.call("POST", "/v1/waits:batch", **lines(5))
        assert [answer["status"] for answer in answers] == [201, 429, 429, 429, 429]
        assert answers[-1]["problem"]["limit"] == "waits_per_second_per_principal"
        assert (
            await team.refused_by("POST", "/v1/waits", json=signal_wait()) == "waits_per_second_per_principal"
        )
        large = "x" * 150
        assert (await team.call("POST", "/v1/signals/k", json=large))[0] == 200
        assert await team.refused_by("POST", "/v1/signals/j", json=large) == "signal_bytes_per_namespace"

        sample = {"labels": {f"label{n}": "x" * 256 for n in range(20)}}
        _, answers = await other.call("POST", "/v1/waits:batch", **lines(15, **sample))
        await other.call("POST", f"/v1/waits/{answers[0]['id']}:cancel")
        assert await other.refused_by("POST", "/v1/waits", json=signal_wait()) == "ended_bytes_per_principal"
        _, page = await other.call("GET", "/v1/waits?limit=1000")
        _, rest = await other.call("GET", f"/v1/waits?limit=1000&page_token={page['next_page_token']}")
        assert max(len(orjson.dumps(part["waits"])) for part in (page, rest)) < 65_536 + 10_000
        assert (len(page["waits"]) + len(rest["waits"]), rest["next_page_token"]) == (15, None)


async def test_an_address_that_guesses_keys_locks_out_no_one_and_fills_no_log(tmp_path: Path) -> None:
    async with (
        aiohttp.ClientSession() as session,
        daemon(tmp_path / "state", **settings(tmp_path)) as running,
    ):
        guesser = Caller(session, running, "guess")
        answers = await asyncio.gather(*(guesser.call("GET", "/v1/limits") for _ in range(100)))
        statuses = [status for status, _ in answers]
        assert {401, 429} == set(statuses)
        for team in TEAMS:  # from the same address, and never seen before
            assert (await Caller(session, running, team).call("GET", "/v1/limits"))[0] == 200
        await Caller(session, running, "a").call("GET", "/v1/keys")
        refused = statuses.count(401)
        await until(lambda: sum(_counts(running, "unknown_key")) == refused)
        assert len(_counts(running, "unknown_key")) < refused
        assert _counts(running, "role") == [1]


def _counts(running: Daemon, reason: str) -> list[int]:
    """The numbers of refusals in the lines of the log with this reason."""
    lines = [event for event in running.log if event.get("event") == "access_refused"]
    return [event["count"] for event in lines if event["reason"] == reason]
